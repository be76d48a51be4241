"""What is logged for an attempt by parts that know nothing of it names the attempt all the same."""

from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import capture_logs

from scheduler.errors import StoreUnreachable

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench


def test_a_plan_that_is_loaded_and_a_store_that_is_away_are_told_with_the_attempt(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.offer_plans("fp32-chunked")
    bench.submit()
    lease = bench.claim()
    succeed, away = bench.scheduler.leases.succeed, [StoreUnreachable("it restarts")]

    def at_the_second_try(*given: Any) -> Any:
        if away:
            raise away.pop()
        return succeed(*given)

    monkeypatch.setattr(bench.scheduler.leases, "succeed", at_the_second_try)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        assert bench.run(lease) == "succeeded"
    named = {"job_id": lease.job_id, "attempt": 1, "lease": 1}
    told = {line["event"]: line for line in logged}
    for event in ("attempt started", "plan loaded", "the store is away, trying again", "attempt ended"):
        assert named.items() <= told[event].items(), told[event]
    assert structlog.contextvars.get_contextvars() == {}
