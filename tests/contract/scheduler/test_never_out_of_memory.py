"""No GPU runs out of memory while jobs need no more than was predicted, whatever workers do and whoever else is there.

The real scheduler decides; the world is an exact account of what every process holds at every moment. Workers claim
ahead, share passes, change plans, tell what they hold late where they shrink, and unload; strangers come and go.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from scheduler import backfill, catalog, claiming, offers, placement
from scheduler.backfill import Running
from scheduler.fleet import Fleet
from scheduler.ids import new_id
from scheduler.plans import GPU_PLANS
from scheduler.policy import Policy
from scheduler.records import GpuSample, Lease, Progress, Worker
from scheduler.service import Scheduler
from scheduler.shape import Shape
from scheduler.states import JobStatus, Stage
from tests.support.databases import Clock
from tests.support.fleet import ERROR, GIB, MEASURED, MODEL, RESULT, RegisteredGpu, new_job, register_gpu

MIB = 2**20
LANES = 3  # jobs in one pass, at most
GPUS = {"GPU-0": (24 * GIB, 2), "GPU-1": (16 * GIB, 2), "GPU-2": (9 * GIB, 1)}  # their memory and their workers
HEADROOM = GIB
SHAPES = ((256, 256, 8), *[(768, 512, 16)] * 6, (768, 768, 24), (1024, 768, 32))
SEEDS = range(3)
TURNS = 300
AT_FIRST = 40  # jobs
UNLOADED = 640 * MIB  # a process without weights, by the data sheet


@pytest.fixture
def policy() -> Policy:
    return Policy(reserve_after_seconds=30.0, retry_base_seconds=0.5, max_attempts=1000)


def weights_bytes(plan: str | None) -> int:
    if plan is None:
        return UNLOADED
    return catalog.architecture(MODEL.architecture).resident_bytes(plan, MODEL.weights_bytes)


@dataclass
class Run:
    """A claimed job: what it will truly need at its peak, and whether it is there yet."""

    lease: Lease
    need_bytes: int
    begun: bool = False

    @property
    def held_bytes(self) -> int:
        return self.need_bytes if self.begun else 0

    @property
    def kind(self) -> tuple[str, str]:
        return Shape.of(self.lease.params).key, self.lease.plan


@dataclass
class Process:
    """A worker process. It holds `extra_bytes` more than the data sheet says (or less), whatever its plan."""

    worker_id: str
    gpu: RegisteredGpu
    extra_bytes: int
    plan: str | None
    told: Worker
    batch: list[Run] = field(default_factory=list)  # in one pass
    next: list[Run] = field(default_factory=list)  # claimed; starts after the pass, or joins it
    ending: list[Run] = field(default_factory=list)  # computed, while the store is not told yet

    @property
    def resident_bytes(self) -> int:
        return weights_bytes(self.plan) + self.extra_bytes

    @property
    def held_bytes(self) -> int:
        return self.resident_bytes + sum(run.held_bytes for run in self.batch)

    @property
    def open(self) -> list[Run]:
        return [*self.batch, *self.next, *self.ending]


class World:
    """The GPUs, what is on them, and the checks."""

    def __init__(self, scheduler: Scheduler, clock: Clock, seed: int) -> None:
        self.scheduler = scheduler
        self.clock = clock
        self.random = random.Random(seed)  # noqa: S311  a simulation
        self.strangers = dict.fromkeys(GPUS, 0)
        self.late: dict[str, set[str]] = {gpu_id: set() for gpu_id in GPUS}  # leased before the last stranger came
        self.ended: list[str] = []
        self.jobs: list[str] = []
        self.claims = 0
        self.processes: list[Process] = []
        for gpu_id, (total, workers) in GPUS.items():
            facts: dict[str, Any] = {"plans": GPU_PLANS, "total_bytes": total, "headroom_bytes": HEADROOM}
            gpu = register_gpu(scheduler, gpu_id, workers=0, **facts)
            for _ in range(workers):
                self._start(gpu)

    def _start(self, gpu: RegisteredGpu) -> None:
        extra = self.random.randrange(-300 * MIB, HEADROOM // 3)
        plan = self.random.choice(["fp16", "fp16-offload"] if gpu.info.total_bytes < 20 * GIB else ["fp16"])
        told = Worker(new_id("worker"), gpu.info.id, 1, MODEL.id, weights_bytes(plan) + extra, ready=True, plan=plan)
        self.scheduler.fleet.register_worker(told)
        self.processes.append(Process(told.id, gpu, extra, plan, told))

    # What may happen

    def turn(self) -> None:
        process = self.random.choice(self.processes)
        acts: list[Callable[[Process], None]] = [*[self.claim] * 5, *[self.proceed] * 5, *[self.end] * 3]
        acts += [self.finish, self.finish, self.finish, self.rest, self.unload, self.stranger, self.submit, self.feed]
        self.random.choice(acts)(process)
        self.check()

    def submit(self, _process: Process | None = None) -> None:
        width, height, frames = self.random.choice(SHAPES)
        changes: dict[str, Any] = {"width": width, "height": height, "num_frames": frames}
        changes["guidance_scale"] = self.random.choice([9.0] * 5 + [1.0])
        changes["allow_int8"] = self.random.random() < 0.3
        changes["priority"] = self.random.choice([1.0, 1.0, 5.0])
        self.jobs.append(self.scheduler.queue.submit(new_job(**changes)).job.id)

    def claim(self, process: Process) -> None:
        if process.next:
            return
        lane, only = 0, {}
        if process.batch:
            first, lanes = process.batch[0], [run.lease.lane for run in process.batch]
            if len(lanes) < LANES and self.random.random() < 0.8:
                lane = next(number for number in range(LANES) if number not in lanes)
                only = dict(zip(("shape", "plan"), first.kind, strict=True))
            else:
                lane = self.random.choice(lanes)
        gpu = process.gpu.info
        others = sum(one.held_bytes for one in self.processes if one.gpu is process.gpu and one is not process)
        measured = gpu.total_bytes - self.strangers[gpu.id] - others - process.told.resident_bytes
        self.clock.advance(0.01)
        lease = self.scheduler.queue.claim(process.worker_id, gpu.id, measured, lane=lane, **only)
        if lease is None:
            return
        self.claims += 1
        job = self.scheduler.queue.get(lease.job_id)
        process.next.append(Run(lease, int(job.footprint.working_bytes * self.random.choice([0.6, 0.95, 1.0]))))

    def proceed(self, process: Process) -> None:
        """Take the next job in, where it may start; or let one that has started come to its peak."""
        waiting = [run for run in process.batch if not run.begun]
        if process.next and self._may_start(process, process.next[0]):
            run = process.next.pop(0)
            if not process.batch and process.plan != run.lease.plan:
                process.plan = run.lease.plan
                if process.resident_bytes > process.told.resident_bytes:
                    self._tell(process)
            process.batch.append(run)
        elif waiting:
            self.random.choice(waiting).begun = True
            self._report(process)

    def _may_start(self, process: Process, run: Run) -> bool:
        first = process.batch[0] if process.batch else run
        return first is run or (
            run.kind == first.kind and run.lease.lane not in [one.lease.lane for one in process.batch]
        )

    def finish(self, process: Process) -> None:
        done = [run for run in process.batch if run.begun]
        if done:
            run = self.random.choice(done)
            process.batch.remove(run)
            process.ending.append(run)

    def end(self, process: Process) -> None:
        if not process.ending:
            return
        run = process.ending.pop(0)
        how = self.random.random()
        if how < 0.8:
            assert self.scheduler.leases.succeed(run.lease, RESULT, MEASURED) is JobStatus.SUCCEEDED
            self.ended.append(run.lease.job_id)
        elif how < 0.9:
            self.scheduler.leases.release(run.lease)
        else:
            self.scheduler.leases.retry(run.lease, ERROR)

    def rest(self, process: Process) -> None:
        """Nothing runs: tell what is held by now. The next job may be claimed already, and the last one not told of."""
        if not process.batch and process.resident_bytes != process.told.resident_bytes:
            self._tell(process)

    def unload(self, process: Process) -> None:
        if not process.batch and self.random.random() < 0.3:
            process.plan = None
            self._tell(process)

    def stranger(self, process: Process) -> None:
        gpu = process.gpu.info
        held = sum(one.held_bytes for one in self.processes if one.gpu is process.gpu)
        size = self.random.choice([0, self.random.randrange(GIB, 8 * GIB)]) if self.random.random() < 0.5 else 0
        if size > self.strangers[gpu.id]:
            self.late[gpu.id] = {
                run.lease.job_id for one in self.processes if one.gpu is process.gpu for run in one.open
            }
        self.strangers[gpu.id] = max(0, min(size, gpu.total_bytes - held))

    def feed(self, _process: Process | None = None) -> None:
        self.clock.advance(1.0)
        for process in self.processes:
            gpu = process.gpu.info
            held = sum(one.held_bytes for one in self.processes if one.gpu is process.gpu) + self.strangers[gpu.id]
            self.scheduler.fleet.sample(gpu.id, GpuSample(held, gpu.total_bytes - held))
            self.scheduler.fleet.touch_worker(process.worker_id)
            self._report(process)
        self.scheduler.queue.feed_idle_workers()

    def _report(self, process: Process) -> None:
        for run in process.open:
            stage = Stage.DENOISING if run.begun else Stage.LOADING
            step = 1 if run.begun else 0
            progress = Progress(stage, step, run.lease.params.num_inference_steps, step / 100)
            self.scheduler.leases.report(run.lease, progress)

    def _tell(self, process: Process) -> None:
        process.told = Worker(
            process.worker_id, process.gpu.info.id, 1, MODEL.id, process.resident_bytes, ready=True, plan=process.plan
        )
        self.scheduler.fleet.register_worker(process.told)

    # What must hold

    def check(self) -> None:
        for gpu in self.scheduler.fleet.gpus():
            here = [one for one in self.processes if one.gpu.info.id == gpu.info.id]
            held = sum(one.held_bytes for one in here)
            over = {run.lease.job_id for one in here for run in one.ending}  # they hold nothing any more
            open_ = replace(gpu, leases=tuple(lease for lease in gpu.leases if lease.job_id not in over))
            assert open_.reserved_bytes <= gpu.info.total_bytes - HEADROOM, "more was promised than there is"
            assert held <= gpu.reserved_bytes, "more is held than was promised"
            still = {run.lease.job_id for one in here for run in one.open}
            self.late[gpu.info.id] &= still
            if not self.late[gpu.info.id]:
                assert held + self.strangers[gpu.info.id] <= gpu.info.total_bytes, "beside a stranger, too"

    def settle(self) -> None:
        """Let everybody leave and everything end; a job that is left could have been run."""
        self.strangers = dict.fromkeys(GPUS, 0)
        for _ in range(40 * len(self.jobs)):
            if len(self.ended) == len(self.jobs):
                break
            self.feed()
            for process in self.processes:
                for act in (self.claim, self.proceed, self.proceed, self.finish, self.end, self.rest):
                    act(process)
                self.check()
        assert sorted(self.ended) == sorted(self.jobs), "every job ends, once"
        assert {self.scheduler.queue.get(job_id).status for job_id in self.jobs} == {JobStatus.SUCCEEDED}


def play(scheduler: Scheduler, clock: Clock, seed: int) -> World:
    world = World(scheduler, clock, seed)
    for _ in range(AT_FIRST):
        world.submit()
    for _ in range(TURNS):
        world.turn()
    world.settle()
    return world


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("fixed_sizes")
def test_what_needs_no_more_than_predicted_never_runs_out_and_always_ends(
    scheduler: Scheduler, clock: Clock, seed: int
) -> None:
    world = play(scheduler, clock, seed)

    assert world.claims >= len(world.jobs)


def ignoring_loads(worker: Worker, served: Mapping[str, Any], plans: tuple[str, ...]) -> dict[tuple[str, str], int]:
    return dict.fromkeys(REAL_LOADS(worker, served, plans), 0)


def ignoring_the_plan(worker: Worker, model: str, model_bytes: int, model_sizes: Mapping[str, int]) -> int:
    """What is predicted less what was measured, even where the plan is loaded already."""
    return model_bytes - min(worker.resident_bytes, max(model_sizes.values()))


def one_lane(holdings: Any) -> dict[Any, Running]:
    """Of a worker only the lane with the most, as if all its jobs ran one after another."""
    lanes: dict[Any, Running] = REAL_LANES(holdings)
    most = {max(mine, key=lambda lane: lanes[lane].reserved_bytes) for mine in _by_worker(lanes)}
    return {lane: one if lane in most else Running(0, one.remaining_seconds) for lane, one in lanes.items()}


def _by_worker(lanes: Mapping[Any, Running]) -> Iterator[list[Any]]:
    for worker_id in {holder for holder, _ in lanes}:
        yield [lane for lane in lanes if lane[0] == worker_id]


def nothing_measured(measured: int, total: int, headroom: int, committed: int) -> int:
    """The books alone."""
    return total - headroom - committed


REAL_LOADS, REAL_LANES = offers.loads, backfill.lanes
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "weights that must be loaded are free": (claiming, "loads", ignoring_loads),
    "the loaded plan is not known": (placement, "load_bytes", ignoring_the_plan),
    "lanes do not add up": (backfill, "lanes", one_lane),
    "strangers are not seen": (placement, "ledger_free_bytes", nothing_measured),
    "the books stay as they were": (Fleet, "_resize", lambda *_: None),
}


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.usefixtures("fixed_sizes")
def test_the_account_notices(scheduler: Scheduler, clock: Clock, monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    monkeypatch.setattr(*MUTANTS[mutant])

    with pytest.raises(AssertionError):
        play(scheduler, clock, seed=3)
