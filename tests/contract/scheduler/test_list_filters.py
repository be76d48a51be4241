"""Lists of jobs: each filter alone and together, page by page, and always along an index."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import text, update

from scheduler.ids import first_at
from scheduler.records import Job
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from scheduler.store import reads
from scheduler.store import schema as s
from scheduler.store.reads import Wanted
from tests.support.databases import Clock, FreshDatabase
from tests.support.fleet import MODEL, new_job, open_scheduler, register_gpu
from tests.support.query_plans import query_plan

TENANTS = ("default", "studio")
STATUSES = (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.CANCELLED)
OTHER = "other/i2vgen-xl"


@pytest.fixture
def jobs(scheduler: Scheduler, clock: Clock) -> list[Job]:
    """Two jobs of each tenant, model and status, a second apart, the newest first."""
    for model in (MODEL.id, OTHER):
        register_gpu(scheduler, f"GPU-{model[0]}", model=model)
    made = []
    for tenant, model, _, _ in product(TENANTS, (MODEL.id, OTHER), STATUSES, range(2)):
        clock.advance(1)
        job_id = first_at("job", clock.seconds)
        made.append(scheduler.queue.submit(new_job(id=job_id, tenant=tenant, model=model)).job.id)
    with scheduler.database.write() as conn:
        for index, job_id in enumerate(made):
            status = STATUSES[index // 2 % 3]
            values = {
                JobStatus.QUEUED: {},
                JobStatus.RUNNING: {"lease": 1, "attempts": 1, "started_at": clock.seconds},
                JobStatus.CANCELLED: {"finished_at": clock.seconds},
            }[status]
            conn.execute(update(s.job_states).where(s.job_states.c.job_id == job_id).values(status=status, **values))
    return [scheduler.queue.get(job_id) for job_id in reversed(made)]


def listed(scheduler: Scheduler, **wanted: object) -> list[str]:
    return [job.id for job in scheduler.queue.list_jobs(**wanted)]


def test_every_combination_of_filters(scheduler: Scheduler, jobs: list[Job]) -> None:
    oldest, newest = jobs[-5].created_at, jobs[4].created_at
    statuses = [(), (JobStatus.RUNNING,), (JobStatus.QUEUED, JobStatus.CANCELLED), tuple(JobStatus)]
    for tenant, wanted, model, after, before in product(
        (None, "studio", "nobody"), statuses, (None, OTHER), (None, oldest), (None, newest)
    ):
        expected = [
            job.id
            for job in jobs
            if (tenant is None or job.tenant == tenant)
            and (not wanted or job.status in wanted)
            and (model is None or job.model == model)
            and (after is None or job.created_at > after)
            and (before is None or job.created_at < before)
        ]
        found = listed(
            scheduler, tenant=tenant, statuses=wanted, model=model, created_after=after, created_before=before,
            limit=100,
        )  # fmt: skip
        assert found == expected, (tenant, wanted, model, after, before)


@pytest.mark.parametrize("statuses", [(), (JobStatus.QUEUED,), (JobStatus.QUEUED, JobStatus.RUNNING)])
def test_pages_are_complete_and_without_repetition(
    scheduler: Scheduler, jobs: list[Job], statuses: tuple[JobStatus, ...]
) -> None:
    expected = [job.id for job in jobs if job.tenant == "studio" and (not statuses or job.status in statuses)]
    seen: list[str] = []
    while found := listed(scheduler, tenant="studio", statuses=statuses, before_id=seen[-1] if seen else None, limit=3):
        seen += found
    assert seen == expected


def test_times_far_from_any_id_are_no_trouble(scheduler: Scheduler, jobs: list[Job]) -> None:
    everything = [job.id for job in jobs]
    assert listed(scheduler, created_after=-62_135_596_800.0, created_before=253_402_300_799.0, limit=100) == everything
    assert listed(scheduler, created_before=0.0) == []
    assert listed(scheduler, created_after=253_402_300_799.0) == []


QUEUED_OR_CANCELLED = frozenset({JobStatus.QUEUED, JobStatus.CANCELLED})
ALONG = {
    "anything": (Wanted(), "jobs"),
    "a tenant": (Wanted(tenant="studio"), "ix_jobs_tenant"),
    "a tenant and times": (Wanted("studio", created_after=1.0, created_before=9e9), "ix_jobs_tenant"),
    "a status": (Wanted(statuses=frozenset({JobStatus.QUEUED})), "ix_job_states_status"),
    "statuses": (Wanted(statuses=QUEUED_OR_CANCELLED), "ix_job_states_status"),
    "statuses and times": (
        Wanted(statuses=QUEUED_OR_CANCELLED, created_after=1.0, created_before=9e9),
        "ix_job_states_status",
    ),
    "ids": (Wanted(ids=("job_0" + "0" * 25, "job_z" + "z" * 25)), "jobs"),
    "a tenant and statuses": (Wanted("studio", QUEUED_OR_CANCELLED), "ix_job_states_tenant"),
    "a tenant and statuses from a place on": (
        Wanted("studio", QUEUED_OR_CANCELLED, before_id=first_at("job", 9e9)),
        "ix_job_states_tenant",
    ),
}


@pytest.fixture
def many(fresh_database: FreshDatabase, data_dir: Path) -> Iterator[Scheduler]:
    """A queue whose statistics tell a planner what lists are like: one tenant with few jobs, and two states."""
    with fresh_database() as url, open_scheduler(url, data_dir) as scheduler:
        register_gpu(scheduler)
        new = [new_job(tenant="default" if index % 50 else "studio") for index in range(1600)]
        scheduler.queue.submit_many(new)
        states = s.job_states
        with scheduler.database.write() as conn:
            ended = states.c.job_id.in_([job.id for job in new[:800]])
            conn.execute(update(states).where(ended).values(status=JobStatus.CANCELLED, finished_at=1.0))
            conn.execute(text("ANALYZE"))
        yield scheduler


def test_the_newest_are_read_in_order_along_an_index(many: Scheduler, engine: str) -> None:
    by_id = {"sqlite": "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)", "postgresql": "using pk_jobs on jobs"}
    for name, (wanted, index) in ALONG.items():
        for query in reads.newest(wanted, 20):
            plan = "\n".join(query_plan(many, query))
            assert index in plan, (name, plan)
            assert not any(word in plan for word in ("Sort", "TEMP B-TREE", "Seq Scan")), (name, plan)
        whole = "\n".join(query_plan(many, reads.page(wanted, 20)))
        assert by_id[engine] in whole, (name, whole)
