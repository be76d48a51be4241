"""A job that memory holds back for too long gets a GPU reserved, and starts by the promised time."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scheduler import ids, placement
from scheduler.claiming import Claims, Seat
from scheduler.policy import Policy
from scheduler.records import GpuSample, Job, Lease, Progress, Reservation, ServedModel, Worker
from scheduler.service import Scheduler
from scheduler.states import JobStatus, Stage
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, MODEL, PARAMS, RESULT, RegisteredGpu, demand_bytes, new_job, register_gpu
from tests.support.sizes import FixedSizes

pytestmark = pytest.mark.usefixtures("fixed_sizes")

BLOCK = Policy().memory_class_bytes
RESIDENT = 6 * GIB
WORKERS = 3
SMALLEST = {"width": 256, "height": 256, "num_frames": 8, "num_inference_steps": 200}  # 0.5 GiB, 35 s
SHORT = {"num_inference_steps": 10}  # 1.875 GiB, 14 s
LONG = {"num_inference_steps": 40}  # 1.875 GiB, 50 s
LARGE = {"width": 768, "height": 768, "num_frames": 24}  # 5.75 GiB


@pytest.fixture
def policy() -> Policy:
    return Policy(tau_seconds=60.0, reserve_after_seconds=30.0)


def shared_gpu(scheduler: Scheduler, room_bytes: int, gpu_id: str = "GPU-0", **changes: object) -> RegisteredGpu:
    """A GPU with three workers, that has `room_bytes` for their jobs."""
    total = GIB + WORKERS * RESIDENT + room_bytes
    return register_gpu(scheduler, gpu_id, workers=WORKERS, resident_bytes=RESIDENT, total_bytes=total, **changes)


def submit(scheduler: Scheduler, **changes: object) -> Job:
    return scheduler.queue.submit(new_job(**changes)).job


def reservation(gpu: RegisteredGpu) -> Reservation | None:
    return gpu.scheduler.fleet.gpu(gpu.info.id).reservation


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    """7 GiB for jobs: one large one and 1.25 GiB beside it."""
    return shared_gpu(scheduler, 7 * GIB)


@pytest.fixture
def running(scheduler: Scheduler, gpu: RegisteredGpu) -> Lease:
    """A job of 50 s that runs, so that a large one has to wait."""
    submit(scheduler, **LONG)
    return gpu.must_claim()


@pytest.fixture
def large(scheduler: Scheduler, clock: Clock, running: Lease) -> Job:
    """A large job that has waited for longer than the limit; nothing else waits."""
    job = submit(scheduler, **LARGE)
    clock.advance(30.001)
    return job


def seconds_left(scheduler: Scheduler, lease: Lease, clock: Clock, started_at: float) -> float:
    return scheduler.queue.get(lease.job_id).footprint.seconds - (clock.seconds - started_at)


def test_the_gpu_is_reserved_for_a_job_that_has_waited_too_long(
    scheduler: Scheduler, gpu: RegisteredGpu, running: Lease, clock: Clock
) -> None:
    began = clock.seconds
    large = submit(scheduler, **LARGE)
    clock.advance(30.0)
    assert gpu.claim(worker=1) is None
    assert reservation(gpu) is None, "it has not waited for longer than the limit yet"
    clock.advance(0.001)

    assert gpu.claim(worker=1) is None

    made = reservation(gpu)
    assert made is not None
    assert (made.job_id, made.reserved_bytes, made.made_at) == (large.id, demand_bytes(large), clock.seconds)
    assert made.start_at == pytest.approx(clock.seconds + seconds_left(scheduler, running, clock, began))


def test_what_would_push_the_start_back_waits_although_it_fits(
    scheduler: Scheduler, gpu: RegisteredGpu, large: Job, running: Lease
) -> None:
    longer = submit(scheduler, **LONG)
    assert demand_bytes(longer) < gpu.free_bytes

    assert [gpu.claim(worker=1), gpu.claim(worker=2)] == [None, None]

    scheduler.leases.succeed(running, RESULT, MEASURED)
    assert gpu.must_claim(worker=1).job_id == large.id
    assert gpu.claim(worker=2) is None, "nothing else fits beside it"


def test_what_ends_in_time_runs_in_the_meantime(scheduler: Scheduler, gpu: RegisteredGpu, large: Job) -> None:
    longer, soon = submit(scheduler, **LONG), submit(scheduler, **SHORT)
    assert longer.rank > soon.rank

    assert gpu.must_claim(worker=1).job_id == soon.id


def test_time_enough_is_time_with_slack(scheduler: Scheduler, gpu: RegisteredGpu, large: Job, clock: Clock) -> None:
    gpu.claim(worker=1)
    made = reservation(gpu)
    assert made is not None
    window = made.start_at - clock.seconds
    too_long, fits = submit(scheduler, num_inference_steps=12), submit(scheduler, num_inference_steps=11)
    assert too_long.footprint.seconds < window < too_long.footprint.seconds * 1.25
    assert fits.footprint.seconds * 1.25 < window

    assert gpu.must_claim(worker=1).job_id == fits.id
    assert gpu.claim(worker=2) is None


def test_what_fits_beside_the_reserved_job_runs_however_long(
    scheduler: Scheduler, gpu: RegisteredGpu, large: Job, running: Lease
) -> None:
    small = [submit(scheduler, **SMALLEST) for _ in range(3)]
    beside = 7 * GIB - demand_bytes(large)
    assert 2 * demand_bytes(small[0]) <= beside < 3 * demand_bytes(small[0]) <= gpu.free_bytes

    assert {gpu.must_claim(worker=1).job_id, gpu.must_claim(worker=2).job_id} < {job.id for job in small}
    gpu.add_worker(0)
    assert gpu.claim(worker=3) is None, "the third would take what the large job needs"

    scheduler.leases.succeed(running, RESULT, MEASURED)
    assert gpu.must_claim(worker=0).job_id == large.id


@pytest.mark.parametrize(("spare_blocks", "runs"), [(8, True), (7, False)])
def test_beside_means_to_the_last_byte(scheduler: Scheduler, clock: Clock, spare_blocks: int, runs: bool) -> None:
    gpu = shared_gpu(scheduler, 92 * BLOCK + spare_blocks * BLOCK)  # the large job needs 92 blocks, the small one 8
    submit(scheduler, **LONG)
    gpu.must_claim()
    large, small = submit(scheduler, **LARGE), new_job(**SMALLEST)
    clock.advance(31)
    assert gpu.claim(worker=1) is None
    assert reservation(gpu) is not None
    assert demand_bytes(large) == 92 * BLOCK

    assert demand_bytes(scheduler.queue.submit(small).job) == 8 * BLOCK
    assert (gpu.claim(worker=1) is not None) is runs


def test_the_weights_of_another_model_count_beside_the_reserved_job(scheduler: Scheduler, clock: Clock) -> None:
    """A job whose model its worker has to load holds both, its working set and what the model is larger by."""
    other = ServedModel("other", MODEL.architecture, MODEL.weights_bytes + 3 * GIB // 2, MODEL.fingerprint)
    gpu = shared_gpu(scheduler, 7 * GIB)
    elsewhere = register_gpu(scheduler, "GPU-1", model="other", total_bytes=40 * GIB)
    scheduler.fleet.register(other, [elsewhere.info])
    loader = Worker(gpu.workers[1], "GPU-0", 4711, MODEL.id, RESIDENT, ready=True, can_load=("other",))
    scheduler.fleet.register_worker(loader)
    submit(scheduler, **LONG)
    running = gpu.must_claim()
    large = submit(scheduler, **LARGE)
    clock.advance(31)
    submit(scheduler, model="other", **SMALLEST)

    lease = gpu.claim(worker=1)  # 0.5 GiB and 0.75 GiB more for the weights

    scheduler.leases.succeed(running, RESULT, MEASURED)
    started = gpu.claim(worker=0)
    assert started is not None, f"the large job has to wait for {lease}"
    assert started.job_id == large.id


def test_the_promised_start_stays_however_often_is_asked(
    scheduler: Scheduler, gpu: RegisteredGpu, large: Job, clock: Clock
) -> None:
    gpu.claim(worker=1)
    promised = reservation(gpu)
    assert promised is not None
    for _ in range(5):
        clock.advance(2)
        submit(scheduler, **LONG | {"priority": 4.0})
        assert [gpu.claim(worker=1), gpu.claim(worker=2)] == [None, None]
        assert reservation(gpu) == promised


def test_a_job_is_promised_one_gpu_and_a_gpu_to_one_job(scheduler: Scheduler, clock: Clock) -> None:
    fleet = [shared_gpu(scheduler, 7 * GIB, f"GPU-{n}") for n in range(2)]
    for gpu in fleet:
        submit(scheduler, **LONG)
        gpu.must_claim()
    first, second, third = (submit(scheduler, **LARGE, priority=priority) for priority in (4.0, 2.0, 1.0))
    clock.advance(31)
    for gpu in fleet * 2:
        assert gpu.claim(worker=1) is None

    made = [reservation(gpu) for gpu in fleet]
    assert [one.job_id for one in made if one] == [first.id, second.id]
    assert third.id not in [one.job_id for one in made if one]


def test_the_first_of_the_line_is_the_one_that_is_kept_for(
    scheduler: Scheduler, gpu: RegisteredGpu, large: Job
) -> None:
    """What outranks the large job and fits goes first: the reservation helps against what comes behind it."""
    better = submit(scheduler, **LONG | {"priority": 50.0})
    assert better.rank > large.rank

    assert gpu.must_claim(worker=1).job_id == better.id
    assert reservation(gpu) is None


def test_a_large_job_that_has_waited_starts_wherever_it_fits_first(
    scheduler: Scheduler, gpu: RegisteredGpu, large: Job
) -> None:
    gpu.claim(worker=1)
    assert reservation(gpu) is not None
    other = shared_gpu(scheduler, 7 * GIB, "GPU-1")

    assert other.must_claim().job_id == large.id
    assert reservation(gpu) is None


@pytest.mark.parametrize("engine", ["postgresql"])
def test_claims_that_change_the_same_reservations_do_not_wait_in_a_circle(
    scheduler: Scheduler, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One GPU's claim takes what the other GPU is kept for, while both are to be kept for the same job."""
    here, there = shared_gpu(scheduler, 7 * GIB, "GPU-0"), shared_gpu(scheduler, 7 * GIB, "GPU-1")
    submit(scheduler, num_inference_steps=200)
    here.must_claim()
    for worker, size in enumerate((768, 512)):
        submit(scheduler, width=size, height=size)
        there.must_claim(worker)
    taken = submit(scheduler, width=640, height=640, num_inference_steps=1)
    clock.advance(31)
    assert there.claim(worker=2) is None
    submit(scheduler, **LARGE)
    clock.advance(31)
    at_its_end, may_end = Event(), Event()
    take = Claims._take

    def wait_and_take(claims: Claims, trip: Any, seat: Seat, head: Any) -> Lease | None:
        at_its_end.set()
        assert may_end.wait(30)
        return take(claims, trip, seat, head)

    monkeypatch.setattr(Claims, "_take", wait_and_take)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(here.claim, worker=1)
        assert at_its_end.wait(30)
        second = threads.submit(there.claim, worker=2)
        while not second.done() and not waits_for_a_lock(scheduler):
            time.sleep(0.01)
        may_end.set()

        lease = first.result(30)
        assert lease is not None
        assert lease.job_id == taken.id
        assert second.result(30) is None


def waits_for_a_lock(scheduler: Scheduler) -> bool:
    with scheduler.database.read() as conn:
        return bool(conn.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one())


# Small jobs without end, more of which always wait, that would fit at any time.

SHAPES = [(256, 8), (256, 16), (384, 16), (512, 16), (640, 16)]  # 0.5 to 2.8 GiB
STEPS = st.integers(4, 60)
SMALL = st.fixed_dictionaries(
    {"shape": st.sampled_from(SHAPES), "steps": STEPS, "priority": st.sampled_from([1.0, 4.0])}
)
BIG = st.fixed_dictionaries({"shape": st.sampled_from([(640, 16), (768, 16), (768, 24)]), "steps": STEPS})
STREAMS = st.fixed_dictionaries(
    {
        "big": BIG,
        "small": st.lists(SMALL, min_size=1, max_size=8),  # they come in this order, again and again
        "waiting": st.integers(1, 6),
        "spare_blocks": st.integers(0, 48),  # memory classes that the GPU has beyond those of the big job
        "poll_seconds": st.sampled_from([math.inf, 10.0, 2.5]),  # when idle workers ask again
    }
)
BOUND = 300  # jobs that end before the big one starts: more than any stream needs


class Stream:
    """A GPU with three workers; the clock goes from the end of one job to the end of the next, or to the next poll.

    A job takes its estimate times the next of `factors`, and reports its progress truly.
    """

    def __init__(self, scheduler: Scheduler, clock: Clock, drawn: dict[str, Any], factors: Sequence[float]) -> None:
        self.scheduler = scheduler
        self.clock = clock
        self.small = itertools.cycle(drawn["small"])
        self.factors = itertools.cycle(factors)
        self.waiting = drawn["waiting"]
        self.poll_seconds = drawn["poll_seconds"]
        self.model = ids.new_id("model")  # its own: what earlier streams left is not in the way
        wanted = params_of(drawn["big"])
        room = (blocks(wanted) + drawn["spare_blocks"]) * BLOCK
        self.gpu = shared_gpu(scheduler, room, ids.new_id("GPU"), model=self.model)
        self.running: dict[int, tuple[Lease, float, float]] = {}  # by worker: when the job began and when it ends
        self.queued = 0
        self.fill()
        self.big = submit(scheduler, model=self.model, **wanted)

    def fill(self) -> None:
        """Let every idle worker ask for a job, with enough of the small ones in line."""
        while self.queued < self.waiting + WORKERS:
            one = next(self.small)
            submit(self.scheduler, model=self.model, priority=one["priority"], **params_of(one))
            self.queued += 1
        for worker in range(WORKERS):
            lease = None if worker in self.running else self.gpu.claim(worker=worker)
            if lease is not None:
                self.queued -= 1
                seconds = self.scheduler.queue.get(lease.job_id).footprint.seconds * next(self.factors)
                self.running[worker] = lease, self.clock.seconds, self.clock.seconds + seconds

    def go_on(self) -> int:
        """Let time pass until a job ends or a worker asks again, and all report; returns how many jobs have ended."""
        worker, (ended, _, ends_at) = min(self.running.items(), key=lambda item: item[1][2])
        poll_at = self.clock.seconds + self.poll_seconds
        self.clock.seconds = min(ends_at, poll_at)
        for lease, began, ends in self.running.values():
            fraction = (self.clock.seconds - began) / (ends - began)
            progress = Progress(Stage.DENOISING, 0, lease.params.num_inference_steps, fraction)
            self.scheduler.leases.report(lease, progress)
        if poll_at < ends_at:
            return 0
        self.scheduler.leases.succeed(ended, RESULT, MEASURED)
        del self.running[worker]
        return 1

    def run(self) -> Iterator[Reservation | None]:
        """Go on until the big job has started; yields what is reserved, each time something has happened."""
        ends = 0
        while self.scheduler.queue.get(self.big.id).status is JobStatus.QUEUED:
            ends += self.go_on()
            assert ends < BOUND, f"{ends} small jobs have ended, and the big one still waits"
            self.fill()
            yield reservation(self.gpu)


def params_of(drawn: dict[str, Any]) -> dict[str, Any]:
    size, frames = drawn["shape"]
    return {"width": size, "height": size, "num_frames": frames, "num_inference_steps": drawn["steps"]}


def blocks(wanted: dict[str, Any]) -> int:
    """The memory class of a job."""
    footprint = FixedSizes().predict(MODEL, kind="cpu", plan="fp16", params=replace(PARAMS, **wanted))
    return placement.memory_class(footprint.working_bytes, BLOCK)


def bounded(sqlite: int, postgres: int) -> list[Any]:
    return [pytest.param("sqlite", sqlite, id="sqlite"), pytest.param("postgresql", postgres, id="postgresql")]


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize(("engine", "count"), bounded(30, 8))
def test_where_jobs_take_what_was_predicted_the_big_one_starts_by_its_promised_time(
    scheduler: Scheduler, clock: Clock, count: int
) -> None:
    @examples(count)
    @given(STREAMS)
    def check(drawn: dict[str, Any]) -> None:
        stream = Stream(scheduler, clock, drawn, factors=[1.0])
        promises = {made.start_at for made in stream.run() if made is not None and made.job_id == stream.big.id}
        started_at = scheduler.queue.get(stream.big.id).started_at
        assert started_at is not None
        assert len(promises) <= 1, "nothing pushes the start back"
        assert all(started_at <= start_at + 1e-3 for start_at in promises)
        kept.append(len(promises))

    kept: list[int] = []
    check()
    assert sum(kept) > count / 4, "hardly any job needed a reservation: this shows nothing"


@pytest.mark.parametrize(("engine", "count"), bounded(20, 5))
def test_however_long_jobs_overrun_the_big_one_starts_some_time(scheduler: Scheduler, clock: Clock, count: int) -> None:
    @examples(count)
    @given(STREAMS, st.lists(st.sampled_from([0.5, 1.0, 1.5, 3.0, 8.0]), min_size=1, max_size=5))
    def check(drawn: dict[str, Any], factors: list[float]) -> None:
        for _ in Stream(scheduler, clock, drawn, factors).run():
            pass

    check()


def test_a_reservation_for_a_model_that_no_worker_there_runs_any_more_is_given_up(
    scheduler: Scheduler, clock: Clock
) -> None:
    """Or the GPU, which other workers of another model share, would be kept for a job that nobody starts."""
    other = ServedModel("other", MODEL.architecture, MODEL.weights_bytes, MODEL.fingerprint)
    gpu = shared_gpu(scheduler, 7 * GIB)
    scheduler.fleet.register(other, [])
    scheduler.fleet.register_worker(Worker("worker_other", "GPU-0", 4711, "other", 0, ready=True))
    submit(scheduler, **LONG)
    gpu.must_claim()
    submit(scheduler, **LARGE)
    clock.advance(31)
    assert gpu.claim(worker=1) is None
    assert reservation(gpu) is not None
    for worker_id in gpu.workers:
        scheduler.fleet.worker_gone(worker_id)
    scheduler.fleet.sample("GPU-0", GpuSample(used_bytes=0, free_bytes=gpu.info.total_bytes))

    scheduler.fleet.upkeep.drop_stale_reservations()

    assert reservation(gpu) is None
