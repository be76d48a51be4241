"""Never lose work, at full load: real processes on each engine, killed and stopped at random throughout."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.plan import Plan
from tests.support.databases import FreshDatabase

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

PLAN = Plan(jobs=10_000, seed=20_240_229, kills=30, stops=25)


def test_every_job_ends_once_and_every_stale_write_is_refused(
    engine: str, fresh_database: FreshDatabase, data_dir: Path, record_property: Callable[[str, object], None]
) -> None:
    with fresh_database() as url:
        report = Campaign(PLAN, url, data_dir).run()
    for name, value in report.rows():
        record_property("figure", f"chaos on {engine}: {name}: {value}")
    assert report.violations == []
    assert report.counts["attempts succeeded"] == PLAN.jobs
    assert report.counts["workers killed"] + report.counts["reapers killed"] == PLAN.kills
    assert report.counts["processes stopped"] == PLAN.stops
    assert report.counts["attempts expired"] > 0
    assert report.counts["stale writes refused"] > 0
