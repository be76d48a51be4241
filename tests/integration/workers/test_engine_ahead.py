"""Steps that are launched before the last one was looked at, as on a GPU: what came of it is still known in time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from scheduler.states import JobStatus
from tests.support.worker_host import TINY
from workers import batching
from workers.control import Cause

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench

_SIX = replace(TINY, num_inference_steps=6)


@pytest.fixture
def ahead(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> "Bench":
    """A bench that launches ahead, and on which sharing seems to gain."""
    monkeypatch.setattr(batching, "_ENOUGH", 1)
    monkeypatch.setattr(batching, "GAIN", 0.0)
    bench.synchronous = False
    return bench


@pytest.fixture
def half(ahead: "Bench") -> Iterator["Bench"]:
    """The same with float16 plans."""
    ahead.offer_plans("fp16", "fp16-chunked")
    ahead.model.use("fp16")
    yield ahead
    ahead.model.use("fp32")


@contextmanager
def overflow(bench: "Bench", call: int) -> Iterator[list[torch.dtype]]:
    """Let the UNet overflow in one of its calls, and note what it ran in."""
    calls: list[torch.dtype] = []

    def spoil(module: Any, _inputs: Any, output: Any) -> Any:
        calls.append(module.dtype)
        return (torch.full_like(output[0], float("nan")), *output[1:]) if len(calls) == call else output

    handle = bench.model.execution.components.unet.register_forward_hook(spoil)
    try:
        yield calls
    finally:
        handle.remove()


def video(bench: "Bench", job_id: str) -> bytes:
    result = bench.job(job_id).result
    assert result is not None
    return (bench.data_dir / "blobs" / result.video_key).read_bytes()


def test_the_next_step_is_launched_before_the_last_is_looked_at_and_the_bytes_are_the_same(ahead: "Bench") -> None:
    ahead.synchronous = True
    one_by_one = ahead.submit(_SIX)
    assert ahead.run() == "succeeded"
    ahead.synchronous = False
    launched: list[int] = []
    ahead.model.waited = lambda _indices: launched.append(len(ahead.model.passes))
    at_once = ahead.submit(_SIX)
    assert ahead.run() == "succeeded"
    assert launched == [2, 3, 4, 5, 6, 6]
    assert video(ahead, at_once) == video(ahead, one_by_one)


@pytest.mark.parametrize("call", [1, 3, 6], ids=["first", "in between", "last"])
def test_a_step_that_was_launched_upon_one_that_overflowed_is_forgotten(call: int, half: "Bench") -> None:
    job_id = half.submit(_SIX)
    with overflow(half, call):
        assert half.run() == "succeeded"
    (attempt,) = half.scheduler.queue.attempts(job_id)
    assert attempt.measured is not None
    assert attempt.measured.steps == 6
    (notice,) = half.job(job_id).notices
    assert f"after step {call}" in notice.message


def test_one_that_overflows_when_another_is_to_join_goes_on_alone_and_in_bfloat16(half: "Bench") -> None:
    half.batch_jobs = 2
    ids = [half.submit(replace(_SIX, seed=seed)) for seed in (1, 2)]
    with overflow(half, 2) as ran:
        half.run()
    assert ran == [torch.float16] * 2 + [torch.bfloat16] * 5 + [torch.float16] * 6
    assert [half.job(job_id).status for job_id in ids] == [JobStatus.SUCCEEDED] * 2
    assert [half.outcomes(job_id) for job_id in ids] == [["succeeded"]] * 2
    assert sorted(len(half.job(job_id).notices) for job_id in ids) == [0, 1]


def test_a_cancel_waits_for_the_step_under_way_and_for_no_other(ahead: "Bench") -> None:
    job_id = ahead.submit(_SIX)

    def cancel(index: int) -> None:
        if index == 2:
            ahead.scheduler.queue.cancel(job_id)
            ahead.heard(Cause.CANCEL)

    ahead.model.before_step = cancel
    assert ahead.run(ahead.claim()) == "cancel"
    assert ahead.model.steps_done == [0, 1, 2]
    assert ahead.job(job_id).status is JobStatus.CANCELLED


def test_a_failure_of_the_gpu_ends_one_job_of_a_pass_and_gives_the_others_back(ahead: "Bench") -> None:
    """It shows only when a step is looked at. The process is of no use then, and nothing more is launched."""
    ahead.batch_jobs = 2
    ids = [ahead.submit(replace(_SIX, seed=seed)) for seed in (1, 2)]

    def fail(indices: tuple[int, ...]) -> None:
        if len(indices) == 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    ahead.model.waited = fail
    ahead.run()
    assert ahead.engine is not None
    assert ahead.engine.worn is not None
    assert sorted(ahead.outcomes(job_id) for job_id in ids) == [["released"], ["retried"]]
    assert {ahead.job(job_id).status for job_id in ids} == {JobStatus.QUEUED}
    assert [len(each) for each in ahead.model.passes].count(2) == 2
    saved = [ahead.job(job_id).checkpoint_step for job_id in ids if ahead.outcomes(job_id) == ["released"]]
    assert saved == [2]


def test_a_job_is_not_blamed_for_what_another_did_to_the_gpu_while_joining(ahead: "Bench") -> None:
    ahead.batch_jobs = 2
    ids = [ahead.submit(replace(_SIX, seed=seed)) for seed in (1, 2)]

    def fail(*_arguments: Any) -> None:
        if ahead.model.passes:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    ahead.model.embeddings._limit_bytes = 0  # nothing that was encoded before is used again
    handle = ahead.model.execution.components.vae.encoder.register_forward_pre_hook(fail)
    try:
        ahead.run()
    finally:
        handle.remove()
    assert sorted(ahead.outcomes(job_id) for job_id in ids) == [["released"], ["retried"]]
