"""Every queued job can say why it waits: each cause is made and cleared here, and with it the reason is gone."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from scheduler.explain import QueueInfo
from scheduler.outlook import PRIOR, Span
from scheduler.records import GpuSample, Lease, Measured, Progress, Worker
from scheduler.service import Scheduler
from scheduler.states import Stage
from scheduler.waits import Blocker
from tests.support.databases import Clock
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
    register_gpu,
)

pytestmark = pytest.mark.usefixtures("fixed_sizes")

STARTED = Progress(Stage.DENOISING, step=0, steps=50, fraction=0.0)


def explained(scheduler: Scheduler, job_id: str = "job_1") -> QueueInfo:
    info = scheduler.queue.explain(scheduler.queue.get(job_id))
    assert info is not None
    return info


@dataclass
class World:
    """One GPU, and `job_1` in the queue; `measured` is what the GPU's worker sees free."""

    scheduler: Scheduler
    clock: Clock
    gpu: RegisteredGpu
    measured: int = 24 * GIB

    def submit(self, job_id: str, **changes: object) -> None:
        self.scheduler.queue.submit(new_job(id=job_id, **changes))

    def sample(self, free_bytes: int | None) -> None:
        self.measured = free_bytes or 0
        problem = None if free_bytes is not None else "GPU is lost"
        used = None if free_bytes is None else 24 * GIB - free_bytes
        self.scheduler.fleet.sample("GPU-0", GpuSample(used, free_bytes, problem=problem))

    def set_ready(self, ready: bool) -> None:
        self.scheduler.fleet.register_worker(Worker(self.gpu.workers[0], "GPU-0", 4711, MODEL.id, 6 * GIB, ready=ready))

    def resize(self, total_bytes: int) -> None:
        self.scheduler.fleet.register(MODEL, [gpu_info(total_bytes=total_bytes)])

    def claim(self) -> Lease | None:
        return self.gpu.claim(self.measured)


def away(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.clock.advance(86_401)
    return lambda: world.sample(24 * GIB)


def small(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.resize(8 * GIB)
    return lambda: world.resize(24 * GIB)


def paused(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.scheduler.control.pause("moving racks", "alice")
    return lambda: world.scheduler.control.resume("alice")


def draining(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.scheduler.fleet.drain("GPU-0", "new fan", "alice")
    return lambda: world.scheduler.fleet.resume("GPU-0", "alice")


def faulted(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.scheduler.fleet.fault("GPU-0", "Xid 79")
    return lambda: world.scheduler.fleet.resume("GPU-0", "alice")


def asked_for_later(world: World) -> Callable[[], object]:
    world.submit("job_1", not_before=world.clock.seconds + 5)
    return lambda: world.clock.advance(5)


def tried(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.scheduler.leases.retry(world.gpu.must_claim(), ERROR)
    return lambda: world.clock.advance(2)


def loading(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.set_ready(False)
    return lambda: world.set_ready(True)


def gone(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.scheduler.fleet.worker_gone(world.gpu.workers[0])
    return lambda: world.set_ready(True)


def offline(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.clock.advance(11)
    return lambda: world.sample(24 * GIB)


def unknown(world: World) -> Callable[[], object]:
    world.submit("job_1")
    world.sample(None)
    return lambda: world.sample(24 * GIB)


def taken(world: World) -> Callable[[], object]:
    world.submit("job_1")
    need = demand_bytes(world.scheduler.queue.get("job_1"))
    world.sample(need - 1)
    return lambda: world.sample(need)


def promised(world: World) -> Callable[[], object]:
    world.gpu.add_worker(6 * GIB)
    world.submit("job_0", num_frames=64)
    lease = world.gpu.must_claim(worker=1)
    world.submit("job_1", num_frames=64)
    return lambda: world.scheduler.leases.succeed(lease, RESULT, MEASURED)


def running(world: World) -> Callable[[], object]:
    world.submit("job_0")
    lease = world.gpu.must_claim()
    world.submit("job_1")
    return lambda: world.scheduler.leases.succeed(lease, RESULT, MEASURED)


CAUSES = {
    away: Blocker.NO_GPU,
    small: Blocker.TOO_LARGE,
    paused: Blocker.QUEUE_PAUSED,
    draining: Blocker.DRAINING,
    faulted: Blocker.DRAINING,
    asked_for_later: Blocker.NOT_BEFORE,
    tried: Blocker.RETRY_BACKOFF,
    loading: Blocker.NO_WORKER,
    gone: Blocker.NO_WORKER,
    offline: Blocker.NO_WORKER,
    unknown: Blocker.MEMORY_UNKNOWN,
    taken: Blocker.FOREIGN_MEMORY,
    promised: Blocker.NO_FREE_MEMORY,
    running: Blocker.BUSY,
}


@pytest.fixture
def world(scheduler: Scheduler, clock: Clock) -> World:
    return World(scheduler, clock, register_gpu(scheduler))


@pytest.mark.parametrize(("cause", "code"), CAUSES.items(), ids=[cause.__name__ for cause in CAUSES])
def test_a_cause_that_is_gone_holds_nothing_off(
    world: World, cause: Callable[[World], Callable[[], object]], code: Blocker
) -> None:
    clear = cause(world)
    wait = explained(world.scheduler).wait
    assert wait.code is code
    assert wait.clears_when
    assert explained(world.scheduler).wait == wait, "as long as the cause lasts"
    if cause not in (away, offline, running):  # a worker that asks is neither away nor busy
        assert world.claim() is None

    clear()

    assert explained(world.scheduler).wait.code is Blocker.DISPATCHING
    lease = world.claim()
    assert lease is not None
    assert lease.job_id == "job_1"


def test_a_reservation_is_told_to_its_holder_and_to_whom_it_holds_back(scheduler: Scheduler, clock: Clock) -> None:
    """Two workers leave 9 GiB, of which the large job needs 6.75 and each other one 3.5."""
    gpu = register_gpu(scheduler, workers=2, resident_bytes=7 * GIB)
    scheduler.queue.submit(new_job(id="job_0", num_frames=32))
    lease = gpu.must_claim()
    large = scheduler.queue.submit(new_job(id="job_large", num_frames=64)).job
    scheduler.queue.submit(new_job(id="job_small", num_frames=32))
    clock.advance(301)
    scheduler.fleet.sample("GPU-0", GpuSample(0, 24 * GIB))
    scheduler.leases.report(lease, STARTED)
    start_at = clock.seconds + scheduler.queue.get("job_0").footprint.seconds

    assert gpu.claim(worker=1) is None, "it is being kept for the large one"

    kept, held_back = explained(scheduler, "job_large"), explained(scheduler, "job_small")
    assert kept.wait.code is Blocker.RESERVATION
    assert kept.wait.details == {"gpu": "GPU-0", "needed_bytes": demand_bytes(large), "start_at": start_at}
    assert kept.start is not None
    assert kept.start.p50 == start_at
    assert held_back.wait.code is Blocker.RESERVED
    assert (held_back.wait.details["job_id"], held_back.wait.details["start_at"]) == ("job_large", start_at)
    assert held_back.start is not None
    assert held_back.start.p50 >= start_at

    scheduler.leases.succeed(lease, RESULT, MEASURED)

    assert explained(scheduler, "job_large").wait.message == "next to start"
    assert gpu.must_claim(worker=1).job_id == "job_large"
    assert explained(scheduler, "job_small").wait.code is Blocker.NO_FREE_MEMORY
    scheduler.queue.cancel("job_large")
    scheduler.queue.submit(new_job(id="job_next"))
    assert gpu.must_claim(worker=0).job_id == "job_next"


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (paused, "the queue is paused (moving racks)"),
        (draining, "GPU GPU-0 is draining (new fan)"),
        (faulted, "GPU GPU-0 is faulted (Xid 79)"),
        (asked_for_later, "not before 2027-01-15T08:00:05Z, as asked for"),
        (loading, f"no worker is ready for {MODEL.id}: GPU GPU-0 is loading it"),
        (gone, f"no worker is ready for {MODEL.id}: GPU GPU-0 has no worker for it"),
        (offline, f"no worker is ready for {MODEL.id}: GPU GPU-0 is offline"),
        (unknown, "GPU-0: GPU is lost"),
        (running, "all GPUs that fit are busy with 1 running, 0 queued ahead"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_message_has_what_a_person_needs(
    world: World, cause: Callable[[World], Callable[[], object]], message: str
) -> None:
    cause(world)

    assert explained(world.scheduler).wait.message == message


def test_too_large_has_the_sizes(world: World) -> None:
    small(world)

    info = explained(world.scheduler)

    assert "offers 7.00 GiB, 1.00 GiB of it beside the resident model" in info.wait.message
    assert info.wait.details["capacity_bytes"] == GIB
    assert (info.eta_seconds, info.start, info.finish) == (None, None, None)


def test_not_measured_yet(scheduler: Scheduler) -> None:
    scheduler.fleet.register(MODEL, [gpu_info()])
    RegisteredGpu(scheduler, gpu_info()).add_worker()
    scheduler.queue.submit(new_job(id="job_1"))

    assert explained(scheduler).wait.message == "GPU-0: not measured yet"


def test_next_to_start(world: World) -> None:
    world.submit("job_1")

    info = explained(world.scheduler)

    seconds = world.scheduler.queue.get("job_1").footprint.seconds
    assert (info.position, info.position_exact, info.wait.message) == (1, True, "next to start")
    assert (info.eta_seconds, info.start) == (0.0, Span(world.clock.seconds, world.clock.seconds))
    assert info.finish == Span(world.clock.seconds + seconds, world.clock.seconds + PRIOR.p90 * seconds)


def test_the_place_in_the_queue_and_the_time_until_it_starts(world: World) -> None:
    for number, priority in enumerate((1.0, 0.9, 0.8)):
        world.submit(f"job_{number}", priority=priority)
    world.scheduler.leases.report(world.gpu.must_claim(), HALF_WAY)

    info = explained(world.scheduler, "job_2")

    assert info.position == 2
    assert info.eta_seconds == pytest.approx(1.5 * world.scheduler.queue.get("job_2").footprint.seconds)
    assert info.wait.message == "all GPUs that fit are busy with 1 running, 1 queued ahead"


def test_a_second_gpu_takes_the_second_job(world: World) -> None:
    world.submit("job_1")
    world.submit("job_2", priority=0.9)
    seconds = world.scheduler.queue.get("job_1").footprint.seconds
    assert explained(world.scheduler, "job_2").eta_seconds == pytest.approx(seconds)

    register_gpu(world.scheduler, "GPU-1")

    assert explained(world.scheduler, "job_2").eta_seconds == 0.0


def test_how_long_attempts_took_is_learnt(world: World) -> None:
    """Twenty that took three times what was predicted."""
    for number in range(20):
        world.submit(f"job_{number}")
        seconds = world.scheduler.queue.get(f"job_{number}").footprint.seconds
        world.scheduler.leases.succeed(world.gpu.must_claim(), RESULT, Measured(GIB, 3 * seconds))
    world.submit("job_next")
    world.submit("job_then", priority=0.9)

    info = explained(world.scheduler, "job_then")

    assert info.eta_seconds == pytest.approx(3 * seconds)
    assert info.finish is not None
    assert info.finish.p50 == pytest.approx(world.clock.seconds + 6 * seconds)
    assert info.finish.p90 == pytest.approx(info.finish.p50), "they all took as long"


def test_only_a_queued_job_waits(world: World) -> None:
    world.submit("job_1")
    world.gpu.must_claim()

    assert world.scheduler.queue.explain(world.scheduler.queue.get("job_1")) is None


def test_a_job_that_was_claimed_meanwhile_does_not_wait_behind_itself(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    job = scheduler.queue.submit(new_job()).job
    gpu.must_claim()

    assert scheduler.queue.explain(job) is None
