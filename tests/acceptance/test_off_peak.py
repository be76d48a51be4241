"""The off-peak window with real processes: it holds jobs back from an idle worker, and follows its setting."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.service import Service

pytestmark = pytest.mark.acceptance

_FAR = datetime.now(UTC) + timedelta(days=150)


def test_jobs_of_the_window_wait_beside_an_idle_worker(new_service: Callable[..., Service]) -> None:
    service = new_service(off_peak=f"* 22 1 {_FAR.month} *").start()
    night = service.submit(window="off_peak", priority=50)["id"]
    assert service.wait(service.submit()["id"])["status"] == "succeeded"
    waiting = service.job(night)
    assert (waiting["status"], waiting["queue"]["wait"]["code"], waiting["attempts"]) == ("queued", "window", 0)
    assert service.stop() == 0

    now = datetime.now(UTC)
    service.environment["REELQ_OFF_PEAK"] = f"* {now.hour},{(now + timedelta(hours=1)).hour} * * *"
    service.start()

    assert service.wait(night)["status"] == "succeeded"
    assert "it has been set to" in service.log_path.read_text()
