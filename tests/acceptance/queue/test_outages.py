"""A PostgreSQL server that is restarted, crashes and drops its clients, under load."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.plan import OUTAGES, Plan
from tests.support.databases import running_postgres

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

PLAN = Plan(jobs=4_000, seed=1, outages=OUTAGES)


def test_throughput_comes_back_by_itself_and_no_job_is_lost_or_doubled(
    data_dir: Path, record_property: Callable[[str, object], None]
) -> None:
    with running_postgres() as server:
        url = server.url(server.create(server.migrated_template()))
        report = Campaign(PLAN, url, data_dir, server).run()
    for name, value in report.rows():
        record_property("figure", f"PostgreSQL taken away: {name}: {value}")
    assert report.violations == []  # among them: no job ended for a minute
    assert report.counts["attempts succeeded"] == PLAN.jobs
    assert report.counts["processes started"] == 9, "the eight workers and the reaper that were there at first"
    assert report.counts["connections terminated"] > 0
    assert [outage for outage, _ in report.back_seconds] == list(OUTAGES)
