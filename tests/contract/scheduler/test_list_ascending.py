"""Lists turned round: oldest first, page by page."""

import pytest

from scheduler.service import Scheduler
from scheduler.states import JobStatus
from tests.support.fleet import new_job, register_gpu


@pytest.mark.parametrize("statuses", [(), (JobStatus.QUEUED,), (JobStatus.QUEUED, JobStatus.CANCELLED)])
def test_pages_go_on_to_later_jobs(scheduler: Scheduler, statuses: tuple[JobStatus, ...]) -> None:
    register_gpu(scheduler)
    ids = sorted(scheduler.queue.submit(new_job(tenant="a")).job.id for _ in range(5))
    scheduler.queue.submit(new_job(tenant="b"))
    scheduler.queue.cancel(ids[1])
    wanted = [id_ for id_ in ids if id_ != ids[1] or statuses != (JobStatus.QUEUED,)]
    seen: list[str] = []
    while True:
        last = seen[-1] if seen else None
        page = scheduler.queue.list_jobs(tenant="a", statuses=statuses, before_id=last, ascending=True, limit=2)
        seen += [job.id for job in page]
        if len(page) < 2:
            break
    assert seen == wanted
