"""Numbers that stop being finite: found where they do, and the stage done again in a safer precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch

from scheduler.states import JobStatus
from tests.support.worker_host import TINY
from workers import keeper

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench

_FIVE_STEPS = replace(TINY, num_inference_steps=5)


@pytest.fixture
def half(bench: "Bench") -> Iterator["Bench"]:
    """A bench whose device runs float16 plans, as a GPU does."""
    bench.offer_plans("fp16", "fp16-chunked")
    bench.model.use("fp16")
    yield bench
    bench.model.use("fp32")


@contextmanager
def poisoned(module: Any, value: float, *, dtype: torch.dtype) -> Iterator[list[torch.dtype]]:
    """Have a network give `value` everywhere, as float16 does when it overflows, while it runs in `dtype`."""
    ran: list[torch.dtype] = []

    def spoil(_module: Any, _inputs: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        ran.append(tensor.dtype)
        if tensor.dtype is not dtype:
            return output
        spoilt = torch.full_like(tensor, value)
        return (spoilt, *output[1:]) if isinstance(output, tuple) else spoilt

    handle = module.register_forward_hook(spoil)
    try:
        yield ran
    finally:
        handle.remove()


def mean(bench: "Bench", job_id: str) -> float:
    result = bench.job(job_id).result
    assert result is not None
    with av.open(str(bench.data_dir / "blobs" / result.video_key)) as container:
        return float(np.mean([frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -4.0], ids=["nan", "inf", "all black"])
def test_a_decode_that_gives_no_picture_is_done_again_in_float32(value: float, half: "Bench") -> None:
    job_id = half.submit(_FIVE_STEPS)
    with poisoned(half.model.execution.components.vae.decoder, value, dtype=torch.float16) as ran:
        assert half.run() == "succeeded"
    assert ran[0] is torch.float16
    assert ran[-1] is torch.float32
    assert half.model.steps_done == list(range(5)), "no step is done again"
    (notice,) = half.job(job_id).notices
    assert "float32" in notice.message
    assert 90 < mean(half, job_id) < 165
    assert half.outcomes(job_id) == ["succeeded"]


def no_picture_of_float16(bench: "Bench") -> Any:
    """Let the VAE give no numbers, in any precision, for latents that the UNet made in float16."""

    def spoil(module: Any, _inputs: Any, output: Any) -> Any:
        half = bench.model.execution.components.unet.dtype is torch.float16
        return torch.full_like(output, float("nan")) if half else output

    return bench.model.execution.components.vae.decoder.register_forward_hook(spoil)


def test_latents_that_give_no_picture_in_float32_either_are_made_again_in_bfloat16(half: "Bench") -> None:
    job_id = half.submit(_FIVE_STEPS)
    handle = no_picture_of_float16(half)
    try:
        with dtypes(half) as ran:
            assert half.run() == "succeeded"
    finally:
        handle.remove()
    assert half.model.steps_done == [*range(5), *range(5)]
    assert ran == [torch.float16] * 5 + [torch.bfloat16] * 5
    first, second = half.job(job_id).notices
    assert "decoded again" in first.message
    assert "all steps are done again" in second.message
    assert half.outcomes(job_id) == ["succeeded"]


def test_a_checkpoint_that_the_store_names_stays_when_steps_are_made_again(
    half: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job goes on from is never a file that is gone."""
    monkeypatch.setattr(keeper, "_COST_SHARE", 1e9)
    half.checkpoint_seconds = 0.0
    job_id = half.submit(_FIVE_STEPS)

    def stop(index: int) -> None:
        if len(half.model.passes) == 4:
            half.named(job_id, at_least=3)
        if len(half.model.passes) > 5 and index == 1:
            half.shutdown.set()

    half.model.before_step = stop
    handle = no_picture_of_float16(half)
    try:
        assert half.run(half.claim()) == "shutdown"
    finally:
        handle.remove()
    (path,) = (name for name in half.files(job_id) if "checkpoint" in name)
    assert path == f"1/checkpoint_{half.job(job_id).checkpoint_step}.safetensors"
    half.shutdown.clear()
    half.model.before_step = lambda _index: None
    assert half.run() == "succeeded"
    assert half.job(job_id).resumed_from_step is not None


def test_latents_that_are_not_finite_go_back_to_the_last_good_step_and_on_in_bfloat16(half: "Bench") -> None:
    job_id = half.submit(_FIVE_STEPS)
    unet = half.model.execution.components.unet
    with poisoned_after(half, steps=2) as ran:
        assert half.run() == "succeeded"
    assert half.model.steps_done == [0, 1, 2, 2, 3, 4]
    assert ran == [torch.float16] * 3 + [torch.bfloat16] * 3
    (notice,) = half.job(job_id).notices
    assert "after step 3" in notice.message
    assert "bfloat16" in notice.message
    assert half.model.execution.components.unet is not None
    del unet

    healthy = half.submit(replace(_FIVE_STEPS, seed=3))
    with dtypes(half) as ran:
        assert half.run() == "succeeded"
    assert set(ran) == {torch.float16}, "the next job runs as its plan says"
    assert half.job(healthy).notices == ()


def test_an_image_that_overflows_in_the_encoder_is_encoded_again_in_float32(half: "Bench") -> None:
    job_id = half.submit(_FIVE_STEPS)
    with poisoned(half.model.execution.components.vae.encoder, float("nan"), dtype=torch.float16):
        assert half.run() == "succeeded"
    (notice,) = half.job(job_id).notices
    assert "encoded again" in notice.message


def test_a_model_that_gives_no_numbers_in_any_precision_is_held_and_not_the_device(half: "Bench") -> None:
    ids = [half.submit(replace(_FIVE_STEPS, seed=seed)) for seed in (1, 2)]
    with (
        poisoned(half.model.execution.components.unet, float("nan"), dtype=torch.float16),
        poisoned(half.model.execution.components.unet, float("nan"), dtype=torch.bfloat16),
    ):
        for _ in range(4):
            half.run(half.claim())
    errors = [each.error.code for job_id in ids for each in half.scheduler.queue.attempts(job_id) if each.error]
    assert errors == ["numerical_error"] * 4
    (model,) = half.scheduler.queue.models().values()
    assert model.held is not None
    assert half.scheduler.fleet.gpu(half.worker.gpu_id).state == "active"
    assert half.scheduler.queue.claim(half.worker.id, half.worker.gpu_id, 8 * 2**30) is None


def test_a_black_video_may_be_what_was_asked_for(half: "Bench") -> None:
    """Also the VAE in float32 says so: then it is."""
    job_id = half.submit(_FIVE_STEPS)
    vae = half.model.execution.components.vae.decoder
    with poisoned(vae, -4.0, dtype=torch.float16), poisoned(vae, -4.0, dtype=torch.float32):
        assert half.run() == "succeeded"
    assert mean(half, job_id) < 3
    assert half.job(job_id).status is JobStatus.SUCCEEDED


@contextmanager
def dtypes(bench: "Bench") -> Iterator[list[torch.dtype]]:
    """Note what the UNet runs in."""
    ran: list[torch.dtype] = []
    handle = bench.model.execution.components.unet.register_forward_pre_hook(
        lambda module, _inputs: ran.append(module.dtype)
    )
    try:
        yield ran
    finally:
        handle.remove()


@contextmanager
def poisoned_after(bench: "Bench", *, steps: int) -> Iterator[list[torch.dtype]]:
    """Note what the UNet runs in, and let it overflow in float16 after so many steps."""

    def spoil(module: Any, _inputs: Any, output: Any) -> Any:
        if len(ran) <= steps or module.dtype is not torch.float16:
            return output
        return (torch.full_like(output[0], float("nan")), *output[1:])

    with dtypes(bench) as ran:
        handle = bench.model.execution.components.unet.register_forward_hook(spoil)
        try:
            yield ran
        finally:
            handle.remove()
