"""What queues of this kind are known to get wrong: each failure as a heading, and what must be true here instead."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import update

from scheduler.errors import StorageFull, StoreUnreachable
from scheduler.limits import TenantLimits
from scheduler.policy import Policy
from scheduler.reaper import Reaper
from scheduler.records import GpuSample, Job, JobError, Lease, Measured, Worker
from scheduler.service import Scheduler
from scheduler.states import GpuState, JobStatus
from scheduler.store import lines
from scheduler.store import schema as s
from scheduler.store.database import sqlite_url
from tests.support.databases import Clock, FreshDatabase, PostgresServer
from tests.support.fleet import (
    ERROR,
    GIB,
    HALF_WAY,
    MEASURED,
    MODEL,
    RESULT,
    RegisteredGpu,
    demand_bytes,
    gpu_info,
    new_job,
    open_scheduler,
    register_gpu,
)

pytestmark = pytest.mark.usefixtures("fixed_sizes")

ROOT = Path(__file__).parents[3]
RESIDENT = 6 * GIB
OUT_OF_MEMORY = JobError("out_of_memory", "CUDA out of memory")
LARGE = {"width": 768, "height": 768, "num_frames": 24}  # 5.75 GiB
LONG = {"num_inference_steps": 80}  # 1.875 GiB, 98 s


def submit(scheduler: Scheduler, **changes: object) -> Job:
    return scheduler.queue.submit(new_job(**changes)).job


@pytest.fixture
def policy() -> Policy:
    return Policy(reserve_after_seconds=30.0)


# A job that is never started after what blocked it has cleared


@dataclass
class World:
    """A GPU with two workers and 7 GiB for jobs, and what the worker that asks next measures there."""

    scheduler: Scheduler
    clock: Clock
    policy: Policy
    gpu: RegisteredGpu
    worker: int = 1
    measured_bytes: int = 24 * GIB

    def claim(self) -> str | None:
        lease = self.gpu.claim(self.measured_bytes, self.worker)
        return lease.job_id if lease else None

    def reap(self) -> None:
        """A round of a reaper that has just started."""
        opened = self.scheduler
        Reaper(opened.database, self.policy, opened.queue, opened.leases, opened.fleet).run_once()

    def submit(self, **changes: object) -> str:
        return submit(self.scheduler, **changes).id

    def reserve_for_a_large_job(self) -> str:
        """Let a job run that keeps a large one waiting until the GPU is reserved for it; returns the large one."""
        self.submit(**LONG)
        running = self.gpu.must_claim()
        large = self.submit(**LARGE)
        self.pass_time(31, running)
        assert self.claim() is None
        assert self.scheduler.fleet.gpu("GPU-0").reservation is not None
        return large

    def pass_time(self, seconds: float, *running: Lease) -> None:
        """Let time pass, after which everything is heard from."""
        self.clock.advance(seconds)
        for gpu in self.scheduler.fleet.gpus():
            self.scheduler.fleet.sample(gpu.info.id, GpuSample(0, 24 * GIB))
            for worker in gpu.workers:
                self.scheduler.fleet.touch_worker(worker.id)
        for lease in running:
            self.scheduler.leases.report(lease, HALF_WAY)


Blocker = Callable[[World], Iterator[str]]  # blocks a job, yields it, and when it is resumed clears what blocked it


def shared_gpu(scheduler: Scheduler, gpu_id: str = "GPU-0") -> RegisteredGpu:
    return register_gpu(scheduler, gpu_id, workers=2, resident_bytes=RESIDENT, total_bytes=GIB + 2 * RESIDENT + 7 * GIB)


def drained(world: World) -> Iterator[str]:
    job_id = world.submit()
    world.scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    yield job_id
    world.scheduler.fleet.resume("GPU-0", "alice")


def drained_for_a_while(world: World) -> Iterator[str]:
    job_id = world.submit()
    world.scheduler.fleet.drain("GPU-0", "maintenance", "alice", resume_after_seconds=5.0)
    yield job_id
    world.clock.advance(5.0)
    world.reap()


def faulted(world: World) -> Iterator[str]:
    job_id = world.submit()
    world.scheduler.fleet.fault("GPU-0", "its worker keeps failing")
    yield job_id
    world.scheduler.fleet.resume("GPU-0", "alice")


def paused(world: World) -> Iterator[str]:
    job_id = world.submit()
    world.scheduler.control.pause("maintenance", "alice")
    yield job_id
    world.scheduler.control.resume("alice")


def offline(world: World) -> Iterator[str]:
    job_id = world.submit()
    world.clock.advance(11)
    world.reap()
    yield job_id
    world.gpu.add_worker(RESIDENT)
    world.worker = 2


def memory_of_another_job(world: World) -> Iterator[str]:
    world.submit(**LARGE)
    first = world.gpu.must_claim()
    yield world.submit(**LARGE)
    world.scheduler.leases.succeed(first, RESULT, MEASURED)


def memory_of_a_stranger(world: World) -> Iterator[str]:
    """Some process that is not the queue's holds the memory, and leaves."""
    job_id = world.submit()
    world.measured_bytes = GIB
    yield job_id
    world.measured_bytes = 24 * GIB


def memory_of_a_loading_process(world: World) -> Iterator[str]:
    job_id = world.submit(**LARGE)
    loading = world.gpu.add_worker(RESIDENT, ready=False)
    yield job_id
    world.scheduler.fleet.worker_gone(loading)


def a_worker_that_loads(world: World) -> Iterator[str]:
    world.scheduler.fleet.worker_gone(world.gpu.workers[1])
    loading = world.gpu.add_worker(RESIDENT, ready=False)
    world.worker = 2
    yield world.submit()
    world.scheduler.fleet.register_worker(Worker(loading, "GPU-0", 4711, MODEL.id, RESIDENT, ready=True))


def a_condemned_worker(world: World) -> Iterator[str]:
    with world.scheduler.database.write() as conn:
        conn.execute(update(s.workers).where(s.workers.c.id == world.gpu.workers[1]).values(condemned="it hangs"))
    yield world.submit()
    world.scheduler.fleet.worker_gone(world.gpu.workers[1])
    world.gpu.add_worker(RESIDENT)
    world.worker = 2


def not_before(world: World) -> Iterator[str]:
    yield world.submit(not_before=world.clock.seconds + 5.0)
    world.clock.advance(5.0)


def backoff(world: World) -> Iterator[str]:
    job_id = world.submit()
    world.scheduler.leases.retry(world.gpu.must_claim(), ERROR)
    yield job_id
    world.clock.seconds = world.scheduler.queue.get(job_id).not_before


def a_dead_worker(world: World) -> Iterator[str]:
    job_id = world.submit()
    world.gpu.must_claim()
    yield job_id
    world.clock.advance(11)
    world.scheduler.fleet.touch_worker(world.gpu.workers[1])
    world.reap()
    world.clock.advance(1)


def reserved_for_a_job_that_was_cancelled(world: World) -> Iterator[str]:
    large = world.reserve_for_a_large_job()
    yield world.submit(**LONG)
    world.scheduler.queue.cancel(large)


def reserved_for_a_job_that_was_refused(world: World) -> Iterator[str]:
    large = world.reserve_for_a_large_job()
    yield world.submit(**LONG)
    world.scheduler.queue.refuse(large, JobError("unschedulable", "no GPU has room"))


def reserved_for_a_job_that_went_elsewhere(world: World) -> Iterator[str]:
    large = world.reserve_for_a_large_job()
    yield world.submit(**LONG)
    assert shared_gpu(world.scheduler, "GPU-1").must_claim().job_id == large


def reserved_for_a_job_that_fits_no_more(world: World) -> Iterator[str]:
    world.reserve_for_a_large_job()
    yield world.submit(**LONG)
    smaller = replace(world.gpu.info, total_bytes=world.gpu.info.total_bytes - 2 * GIB)
    world.scheduler.fleet.register(MODEL, [smaller])


BLOCKERS: list[Blocker] = [
    drained,
    drained_for_a_while,
    faulted,
    paused,
    offline,
    memory_of_another_job,
    memory_of_a_stranger,
    memory_of_a_loading_process,
    a_worker_that_loads,
    a_condemned_worker,
    not_before,
    backoff,
    a_dead_worker,
    reserved_for_a_job_that_was_cancelled,
    reserved_for_a_job_that_was_refused,
    reserved_for_a_job_that_went_elsewhere,
    reserved_for_a_job_that_fits_no_more,
]


@pytest.mark.parametrize("blocker", BLOCKERS)
def test_a_job_starts_once_its_blocker_has_cleared(
    scheduler: Scheduler, clock: Clock, policy: Policy, blocker: Blocker
) -> None:
    world = World(scheduler, clock, policy, shared_gpu(scheduler))
    blocking = blocker(world)
    job_id = next(blocking)
    for _ in range(3):
        assert world.claim() is None, "nothing blocks it: this shows nothing"
        world.reap()

    assert next(blocking, None) is None

    assert world.claim() == job_id


def drain(world: World) -> None:
    world.scheduler.fleet.drain("GPU-0", "maintenance", "alice")


def fault(world: World) -> None:
    world.scheduler.fleet.fault("GPU-0", "it fell off the bus")


def fall_silent(world: World) -> None:
    world.clock.advance(11)
    world.reap()


def lose_its_workers(world: World) -> None:
    """The GPU is well and active, but has no process that could start a job."""
    for worker_id in world.gpu.workers:
        world.scheduler.fleet.worker_gone(worker_id)
    world.reap()


@pytest.mark.parametrize("leave", [drain, fault, fall_silent, lose_its_workers])
def test_a_reservation_that_leads_nowhere_is_given_up(
    scheduler: Scheduler, clock: Clock, policy: Policy, leave: Callable[[World], None]
) -> None:
    """Another GPU, where small jobs come without end, has to be kept for it now."""
    world = World(scheduler, clock, policy, shared_gpu(scheduler))
    large = world.reserve_for_a_large_job()
    leave(world)
    other = shared_gpu(scheduler, "GPU-1")
    submit(scheduler, **LONG, priority=100.0)
    running = [other.must_claim()]
    for _ in range(30):
        submit(scheduler, **LONG, priority=0.1)
        submit(scheduler, **LONG, priority=0.1)
        running += [lease for worker in range(2) if (lease := other.claim(worker=worker)) is not None]
        if large in [lease.job_id for lease in running]:
            return
        world.pass_time(20, *running)
        world.reap()
        scheduler.leases.succeed(running.pop(0), RESULT, MEASURED)
    pytest.fail(f"{large} still waits: {scheduler.queue.explain(scheduler.queue.get(large))}")


# An identical second job refused because the context was counted twice


def test_an_identical_second_job_finds_the_context_counted_once(scheduler: Scheduler) -> None:
    """Room for the weights once, and for the working sets of two jobs, one after the other or side by side."""
    gpu = register_gpu(scheduler, workers=1, resident_bytes=RESIDENT)
    need = demand_bytes(submit(scheduler))
    scheduler.fleet.register(MODEL, [gpu_info(total_bytes=GIB + RESIDENT + need)])
    submit(scheduler)
    for _ in range(2):
        scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)

    scheduler.fleet.register(MODEL, [gpu_info(total_bytes=GIB + 2 * RESIDENT + 2 * need)])
    gpu.add_worker(RESIDENT)
    submit(scheduler)
    submit(scheduler)
    assert {gpu.must_claim(worker=0).reserved_bytes, gpu.must_claim(worker=1).reserved_bytes} == {need}


# A re-plan after out-of-memory that inflates until nothing fits


def test_running_out_of_memory_inflates_nothing_that_is_queued(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    unlucky, same = submit(scheduler, priority=4.0), submit(scheduler)
    need = demand_bytes(unlucky)
    for _ in range(Policy().max_attempts):
        lease = gpu.must_claim()
        assert (lease.job_id, lease.reserved_bytes) == (unlucky.id, need)
        scheduler.leases.retry(lease, OUT_OF_MEMORY, Measured(vram_peak_bytes=23 * GIB, run_seconds=1.0))
        clock.advance(60)
        for job in (unlucky, same):
            now = scheduler.queue.get(job.id)
            assert (now.footprint, now.memory_class) == (job.footprint, job.memory_class)

    assert scheduler.queue.get(unlucky.id).status is JobStatus.FAILED
    assert demand_bytes(submit(scheduler)) == need
    assert gpu.claim(free_bytes=need) is not None


# A wait restarted by every re-plan


def test_a_grace_is_not_restarted_by_what_happens_meanwhile(scheduler: Scheduler, clock: Clock, policy: Policy) -> None:
    """A job that no GPU can hold any more ends when its time is over, whatever registers and claims until then."""
    longest = policy.unschedulable_grace_seconds + policy.worker_ttl_seconds + 2.0
    reaper = Reaper(scheduler.database, policy, scheduler.queue, scheduler.leases, scheduler.fleet)
    reaper.run_once()
    gpu = register_gpu(scheduler)
    large = submit(scheduler, **LARGE)
    submitted_at = clock.seconds
    while scheduler.queue.get(large.id).status is JobStatus.QUEUED:
        clock.advance(1.0)
        scheduler.fleet.register(MODEL, [gpu_info(total_bytes=10 * GIB)])
        gpu.add_worker(0, ready=False)
        gpu.claim()
        reaper.run_once()
        assert clock.seconds <= submitted_at + longest


def test_a_wait_is_not_restarted_by_an_attempt(scheduler: Scheduler, clock: Clock, policy: Policy) -> None:
    """A job that has waited, ran and was given back does not wait for as long again before a GPU is kept for it."""
    world = World(scheduler, clock, policy, shared_gpu(scheduler))
    large = world.submit(**LARGE)
    lease = world.gpu.must_claim()
    assert lease.job_id == large
    world.pass_time(31, lease)
    world.submit(**LONG, priority=50.0)
    scheduler.leases.release(lease)
    small = world.gpu.must_claim()
    assert small.job_id != large

    assert world.claim() is None

    kept = scheduler.fleet.gpu("GPU-0").reservation
    assert kept is not None
    assert kept.job_id == large


def test_a_backoff_is_not_restarted_by_a_claim(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    job = submit(scheduler)
    scheduler.leases.retry(gpu.must_claim(), ERROR)
    due = scheduler.queue.get(job.id).not_before
    while clock.seconds < due:
        assert gpu.claim() is None
        assert scheduler.queue.get(job.id).not_before == due
        clock.seconds = min(due, clock.seconds + 0.1)

    assert gpu.must_claim().job_id == job.id


def test_a_job_for_later_does_not_hold_back_what_its_owner_submits_now(scheduler: Scheduler, clock: Clock) -> None:
    """A share is used up by work, not by the time until a job may run."""
    gpu = register_gpu(scheduler)
    scheduler.tenants.set("acme", TenantLimits(share=1.0), "me")
    later = submit(scheduler, tenant="acme", not_before=clock.seconds + 86_400.0)
    now = submit(scheduler, tenant="acme")

    assert later.virtual_at == later.ready_at
    assert now.virtual_at == pytest.approx(clock.seconds + later.footprint.seconds, abs=1e-3)
    assert gpu.must_claim().job_id == now.id


# A livelock on exact equality


@pytest.mark.parametrize("source", ["the ledger", "the measurement"])
def test_a_job_that_fits_to_the_byte_starts(scheduler: Scheduler, source: str) -> None:
    gpu = register_gpu(scheduler, resident_bytes=RESIDENT)
    need = demand_bytes(submit(scheduler))

    def claim(free_bytes: int) -> Lease | None:
        if source == "the measurement":
            return gpu.claim(free_bytes=free_bytes)
        scheduler.fleet.register(MODEL, [gpu_info(total_bytes=GIB + RESIDENT + free_bytes)])
        return gpu.claim()

    assert [claim(need - 1) for _ in range(3)] == [None] * 3
    assert claim(need) is not None


# A device shut out for all by one model's fault


def test_a_device_is_not_shut_out_for_the_fault_of_one_model(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler, workers=1, resident_bytes=RESIDENT)
    elsewhere = register_gpu(scheduler, "GPU-1", model="other", workers=0)
    scheduler.fleet.register(replace(MODEL, id="other"), [elsewhere.info])
    second = Worker("worker_other", "GPU-0", 4712, "other", RESIDENT, ready=True)
    scheduler.fleet.register_worker(second)
    for _ in range(5):
        submit(scheduler)
        scheduler.leases.fail(gpu.must_claim(), OUT_OF_MEMORY)
    for _ in range(2):
        submit(scheduler)
        scheduler.leases.retry(gpu.must_claim(), OUT_OF_MEMORY)
    clock.advance(60)
    theirs = submit(scheduler, model="other")

    assert scheduler.fleet.gpu("GPU-0").state is GpuState.ACTIVE
    lease = scheduler.queue.claim(second.id, "GPU-0", 24 * GIB)
    assert lease is not None
    assert lease.job_id == theirs.id
    assert gpu.claim() is not None, "nor for other jobs of that model"


# A run that did not end well taken as evidence


def test_a_cancelled_run_is_no_evidence(scheduler: Scheduler, clock: Clock) -> None:
    """Only what succeeded is learned from: 7 of its predicted seconds, and nothing of those that were cut short."""
    gpu = register_gpu(scheduler)
    short = Measured(vram_peak_bytes=GIB, run_seconds=0.001)
    leases = scheduler.leases

    def cancelled(lease: Lease) -> None:
        scheduler.queue.cancel(lease.job_id)
        leases.cancelled(lease, short)

    def cancelled_at_the_end(lease: Lease) -> None:
        scheduler.queue.cancel(lease.job_id)
        assert leases.succeed(lease, RESULT, short) is JobStatus.CANCELLED

    endings: list[Callable[[Lease], object]] = [
        cancelled,
        cancelled_at_the_end,
        lambda lease: leases.fail(lease, ERROR, short),
        lambda lease: leases.retry(lease, ERROR, short),
        leases.release,
        lambda lease: leases.expire_worker(lease.worker_id),
        lambda lease: leases.succeed(lease, RESULT, Measured(vram_peak_bytes=7 * GIB, run_seconds=7.0)),
    ]
    seconds = 0.0
    for end in endings:
        seconds = submit(scheduler, priority=100.0).footprint.seconds
        end(gpu.must_claim())
        clock.advance(60)

    with scheduler.database.read() as conn:
        assert lines.ratios(conn, MODEL.id, "fp16", 100) == [pytest.approx(7.0 / seconds)]


# Durability silently lost

only_sqlite = pytest.mark.parametrize("engine", ["sqlite"])
only_postgres = pytest.mark.parametrize("engine", ["postgresql"])


@pytest.fixture
def file(fresh_database: FreshDatabase, data_dir: Path) -> Iterator[Path]:
    """A migrated SQLite database in a folder of its own."""
    folder = data_dir / "database"
    folder.mkdir()
    with fresh_database() as url:
        path = Path(url.removeprefix("sqlite:///"))
        yield path.rename(folder / "reelq.db")


def unlink(path: Path) -> None:
    for part in path.parent.iterdir():
        part.unlink()


def move_the_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.mkdir()


def replace_the_directory_with_a_file(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.write_text("")


@only_sqlite
@pytest.mark.parametrize("remove", [unlink, move_the_directory, replace_the_directory_with_a_file])
def test_nothing_is_acknowledged_once_the_database_is_gone(
    file: Path, data_dir: Path, remove: Callable[[Path], None]
) -> None:
    """An open file outlives its name: what is written to it then is lost with the process."""
    with open_scheduler(sqlite_url(file), data_dir) as scheduler:
        register_gpu(scheduler)
        submit(scheduler)
        remove(file)

        with pytest.raises((StoreUnreachable, StorageFull)):
            submit(scheduler)


PROGRAM = """
    import json, os, resource, sys
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from scheduler.errors import StorageFull, StoreUnreachable
    from scheduler.store.database import sqlite_url
    from tests.support.fleet import new_job, open_scheduler, register_gpu

    path = Path({path!r})
    folder = path.parent.with_name("program")
    folder.mkdir()
    with open_scheduler(sqlite_url(path), folder) as scheduler:  # before, so that all is imported
        register_gpu(scheduler)
        scheduler.queue.submit(new_job())
    {become}
    acknowledged, refused = [], 0
    with open_scheduler(sqlite_url(path), folder) as scheduler:
        for number in range(100):
            if number == 10:
                {spoil}
            if number == 20:
                scheduler.database.close()  # new connections from here on
            try:
                acknowledged.append(scheduler.queue.submit(new_job()).job.id)
            except (StorageFull, StoreUnreachable):
                refused += 1
    print(json.dumps([acknowledged, refused]))
"""
NOBODY = 65534
BECOME_NOBODY = f"""
    if os.getuid() == 0:  # who may write whatever the mode says
        for part in (path.parent.parent, *path.parent.parent.rglob("*")):
            os.chown(part, {NOBODY}, {NOBODY})
        os.setgid({NOBODY})
        os.setuid({NOBODY})
"""
SPOIL = {
    "the directory is made read-only": (BECOME_NOBODY, "path.parent.chmod(0o500)"),
    "the files are made read-only": (BECOME_NOBODY, "[part.chmod(0o400) for part in path.parent.iterdir()]"),
    "the disk is full": ("", "resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20_000, -1))"),
}


@only_sqlite
@pytest.mark.parametrize("what", SPOIL)
def test_nothing_is_acknowledged_that_is_not_stored(file: Path, data_dir: Path, what: str) -> None:
    become, spoil = SPOIL[what]
    program = textwrap.dedent(PROGRAM).format(
        root=str(ROOT), path=str(file), become=textwrap.dedent(become), spoil=spoil
    )

    done = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    acknowledged, refused = json.loads(done.stdout)
    assert len(acknowledged) >= 10
    assert refused > 0 or what.startswith("the directory"), "it noticed nothing"
    for part in (file.parent, *file.parent.iterdir()):
        part.chmod(0o700)
    with open_scheduler(sqlite_url(file), data_dir) as scheduler:
        found = {job.id for job in scheduler.queue.list_jobs(limit=1000)}
    assert found.issuperset(acknowledged)
    assert len(found) == len(acknowledged) + 1, "nor was one stored that was refused"


@only_postgres
def test_nothing_is_acknowledged_by_a_server_that_only_reads(
    fresh_database: FreshDatabase, data_dir: Path, postgres_server: PostgresServer
) -> None:
    """As a standby does, to which a failover leads."""
    with fresh_database() as url, open_scheduler(url, data_dir) as scheduler:
        register_gpu(scheduler)
        kept = submit(scheduler)
        name = scheduler.database.url.database
        with scheduler.database.write() as conn:
            conn.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        scheduler.database.close()  # new connections from here on

        with pytest.raises(StoreUnreachable):
            submit(scheduler)

        assert [job.id for job in scheduler.queue.list_jobs()] == [kept.id]
