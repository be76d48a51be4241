"""Jobs that need more than predicted: all end, predictions learn, and no shape is locked out."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from scheduler import footprints
from scheduler.learning import Observation
from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.params import VideoParams
from scheduler.plans import GPU_PLANS, PLANS
from scheduler.policy import Policy
from scheduler.records import Lease
from scheduler.service import Scheduler
from scheduler.shape import Shape
from scheduler.states import JobStatus, Source
from scheduler.store import observations
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, MODEL, RESULT, RegisteredGpu, new_job, register_gpu

SHAPES = ((512, 512, 16), (768, 512, 16), (768, 768, 24), (1024, 768, 24))
LEANNESS = {plan: number for number, plan in enumerate(PLANS)}
JOBS = 120


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    monkeypatch.setattr(footprints, "_LEAST_SECONDS", 0.0)  # what was learned counts for the next job
    return Policy(retry_base_seconds=0.0)


@dataclass
class World:
    """What each plan and shape truly needs is the data sheet's, times a factor of its own and a little noise."""

    scheduler: Scheduler
    clock: Clock
    seed: int
    gpus: list[RegisteredGpu] = field(default_factory=list)
    ran: int = 0
    ran_out: list[int] = field(default_factory=list)  # at which run

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311  a simulation
        self.factors: dict[tuple[str, str], float] = {}
        for number, total in enumerate((24 * GIB, 12 * GIB)):
            facts: dict[str, Any] = {"plans": GPU_PLANS[:-1], "total_bytes": total}
            self.gpus.append(register_gpu(self.scheduler, f"GPU-{number}", resident_bytes=6 * GIB, **facts))

    def submit(self, shape: tuple[int, int, int]) -> str:
        width, height, frames = shape
        return self.scheduler.queue.submit(new_job(width=width, height=height, num_frames=frames)).job.id

    def run_all(self) -> None:
        """Run what waits until nothing does."""
        while leases := [lease for gpu in self.gpus if (lease := gpu.claim(lane=0)) is not None]:
            for lease in leases:
                self.run(lease)
            self.clock.advance(1.0)

    def run(self, lease: Lease) -> None:
        job = self.scheduler.queue.get(lease.job_id)
        had = job.memory_class * Policy().memory_class_bytes
        need = self.need_bytes(lease.plan, lease.params)
        self.ran += 1
        if need > had:
            self.ran_out.append(self.ran)
            measured = replace(MEASURED, working_peak_bytes=had)
            self.scheduler.leases.out_of_memory(lease, measured, stage="denoising")
            return
        measured = replace(MEASURED, working_peak_bytes=need, step_seconds=1.0, fixed_seconds=5.0)
        self.scheduler.leases.succeed(lease, RESULT, measured)
        kind, shape = self.gpus[0].info.kind, Shape.of(lease.params).key
        seen = Observation(Source.ATTEMPT, kind, MODEL.id, lease.plan, shape, need, 1.0, 5.0)
        self.scheduler.footprints.observe([seen])

    def need_bytes(self, plan: str, params: VideoParams) -> int:
        sheet = footprints.PriorPredictor().predict(MODEL, kind=self.gpus[0].info.kind, plan=plan, params=params)
        factor = self.factors.setdefault((plan, Shape.of(params).key), self.random.choice([0.8, 0.9, 1.1, 1.3]))
        return int(sheet.working_bytes * factor * self.random.normalvariate(1.0, 0.01))


@pytest.mark.parametrize("seed", range(3))
def test_jobs_end_although_predictions_are_wrong_and_predictions_learn(
    scheduler: Scheduler, clock: Clock, seed: int
) -> None:
    world, jobs = World(scheduler, clock, seed), []
    for number in range(JOBS):
        jobs.append(world.submit(world.random.choice(SHAPES)))
        if number % 4 == 3:
            world.run_all()

    for job in map(scheduler.queue.get, jobs):
        plans = [one.plan for one in scheduler.queue.attempts(job.id)]
        assert job.status.ended, job.plan_reason
        assert plans == sorted(plans, key=LEANNESS.__getitem__), "only ever to a leaner plan, or the same elsewhere"
        if job.status is JobStatus.FAILED:
            assert job.error is not None
            assert (job.error.code, plans[-1]) == (OUT_OF_MEMORY, GPU_PLANS[-2]), "not before nothing is left"
    early, late = (sum(begin < at <= begin + world.ran // 2 for at in world.ran_out) for begin in (0, world.ran // 2))
    assert early > 0, "this world has no surprises"
    assert late <= max(1, early // 3), "the same surprise again and again"
    for shape in SHAPES:
        job_id = world.submit(shape)
        world.run_all()
        assert scheduler.queue.get(job_id).status is JobStatus.SUCCEEDED


def test_the_world_notices_predictions_that_do_not_learn(
    scheduler: Scheduler, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "add", lambda *_: None)

    with pytest.raises(AssertionError):
        test_jobs_end_although_predictions_are_wrong_and_predictions_learn(scheduler, clock, 0)
