"""Memory that runs out, at every stage: the job goes on from its checkpoint on a leaner plan; no other is touched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from scheduler.states import JobStatus
from tests.support.worker_host import TINY
from workers.meter import CpuMeter

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench

_FIVE_STEPS = replace(TINY, num_inference_steps=5)
_PARTS = {
    "encoding text": lambda parts: parts.text_encoder,
    "encoding the view": lambda parts: parts.image_encoder,
    "encoding the frame": lambda parts: parts.vae.encoder,
    "denoising": lambda parts: parts.unet,
    "decoding": lambda parts: parts.vae.decoder,
}


@contextmanager
def no_memory(bench: "Bench", part: str, when: Callable[[], bool]) -> Iterator[list[str]]:
    """Let one network of the model run out of memory, before it does anything, whenever `when` says so."""
    failed: list[str] = []

    def fail(*_arguments: Any) -> None:
        if when():
            failed.append(bench.model.execution.plan)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    handle = _PARTS[part](bench.model.execution.components).register_forward_pre_hook(fail)
    try:
        yield failed
    finally:
        handle.remove()


@pytest.mark.parametrize("part", _PARTS)
def test_a_job_that_runs_out_of_memory_goes_on_with_a_leaner_plan(part: str, bench: "Bench") -> None:
    first, second = bench.submit(_FIVE_STEPS), bench.submit(replace(_FIVE_STEPS, seed=2))
    fits = [False]

    def when() -> bool:
        in_time = part != "denoising" or len(bench.model.passes) == 3
        return in_time and not fits[0] and bench.model.execution.plan == "fp32"

    with no_memory(bench, part, when) as failed:
        lease = bench.claim()
        assert bench.run(lease) == "out_of_memory"
        fits[0] = True
        assert failed == ["fp32"]
        job = bench.job(lease.job_id)
        done = {"denoising": 3, "decoding": 5}.get(part)
        assert (job.status, job.attempts) == (JobStatus.QUEUED, 0), "nobody is to blame"
        assert (job.footprint.plan, job.checkpoint_step) == ("fp32-chunked", done)
        (notice,) = job.notices
        assert notice.code == "out_of_memory"
        assert "fp32-chunked" in notice.message
        assert bench.run() == "succeeded"
    assert [bench.job(job_id).status for job_id in (first, second)] == [JobStatus.SUCCEEDED] * 2
    assert bench.job(lease.job_id).resumed_from_step == done
    (other,) = {first, second} - {lease.job_id}
    assert bench.outcomes(other) == ["succeeded"]
    assert bench.job(other).attempts == 1


def test_a_job_fails_only_when_the_leanest_plan_has(bench: "Bench") -> None:
    job_id = bench.submit()
    with no_memory(bench, "denoising", lambda: True) as failed:
        bench.run()
    assert failed == ["fp32", "fp32-chunked"]
    job = bench.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "out_of_memory"
    assert "denoising" in job.error.message
    assert [each.plan for each in bench.scheduler.queue.attempts(job_id)] == ["fp32", "fp32-chunked"]
    assert bench.files(job_id) == ["image.png"]


def test_a_shape_is_not_locked_out_by_one_failure(bench: "Bench") -> None:
    with no_memory(bench, "decoding", lambda: bench.model.execution.plan == "fp32"):
        bench.submit()
        bench.run()
    for seed in (5, 6):
        job_id = bench.submit(replace(TINY, seed=seed))
        assert bench.run() == "succeeded"
        assert bench.job(job_id).status is JobStatus.SUCCEEDED


def test_a_lost_worker_and_a_cancel_are_no_evidence_of_a_footprint(bench: "Bench") -> None:
    bench.submit(_FIVE_STEPS)
    cancelled = bench.submit(replace(_FIVE_STEPS, seed=2))

    def interrupt(index: int) -> None:
        if index == 1 and not bench.job(cancelled).cancel_requested:
            bench.scheduler.queue.cancel(cancelled)
            bench.scheduler.leases.expire_worker(bench.worker.id)

    bench.model.before_step = interrupt
    bench.run(bench.claim())
    with bench.scheduler.database.read() as conn:
        from sqlalchemy import func, select

        from scheduler.store.schema import observations

        assert conn.execute(select(func.count()).select_from(observations)).scalar() == 0


def test_weights_leave_the_device_after_a_while_without_work_and_come_back_for_the_next_job(bench: "Bench") -> None:
    def held() -> tuple[str | None, int]:
        (worker,) = bench.scheduler.fleet.gpu(bench.worker.gpu_id).workers
        return worker.plan, worker.resident_bytes

    first = bench.submit()
    assert bench.run() == "succeeded"
    assert held()[0] == "fp32"

    bench.idle_unload_seconds, bench.idle_turns = 1e-9, 2
    bench.run()
    assert (held()[0], bench.model.execution.plan) == (None, None)

    bench.idle_unload_seconds = 0.0
    again = bench.submit()
    assert bench.run() == "succeeded"
    assert held()[0] == "fp32"
    results = [bench.job(job_id).result for job_id in (first, again)]
    assert len({result.sha256 for result in results if result}) == 1


class Leaking(CpuMeter):
    """A process of which more stays behind with each job."""

    left_bytes = 0

    def resident_bytes(self) -> int:
        return 2**30 + self.left_bytes


@pytest.mark.parametrize(("left_bytes", "replaced"), [(2**30, False), (2**30 + 1, True)], ids=["at", "above"])
def test_a_process_that_keeps_more_than_may_stay_is_replaced_between_jobs(
    left_bytes: int, replaced: bool, bench: "Bench"
) -> None:
    """The bench lets 1 GiB stay behind."""
    bench.meter = meter = Leaking()
    first, second = bench.submit(), bench.submit(replace(TINY, seed=2))

    def leak(_index: int) -> None:
        meter.left_bytes = left_bytes

    bench.model.before_step = leak
    bench.run()
    assert bench.engine is not None
    ended = [bench.outcomes(job_id) for job_id in (first, second)]
    if not replaced:
        assert (bench.engine.worn, ended) == (None, [["succeeded"]] * 2)
        return
    assert "1024 MiB more than at first" in str(bench.engine.worn)
    assert sorted(ended) == [["released"], ["succeeded"]]
    waiting = next(job_id for job_id in (first, second) if bench.outcomes(job_id) == ["released"])
    job = bench.job(waiting)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0), "it waits for the new process, unharmed"


def test_why_a_process_gave_way_is_on_record(bench: "Bench") -> None:
    bench.scheduler.fleet.worker_worn(bench.worker.id, bench.gpu_id, "700 MiB more than at first stay behind")
    told = bench.scheduler.events.read(subject=bench.gpu_id)
    event = told[-1]
    assert (event.type, event.data["worker"]) == ("worker.worn", bench.worker.id)
    assert "700 MiB" in event.data["reason"]
