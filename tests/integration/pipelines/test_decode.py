"""Frames one by one, and those that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from workers import model_folder
from workers.pipelines.decode import BlackFrame, NonFiniteFrame, decode
from workers.pipelines.execution import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FRAMES = 3


@pytest.fixture
def half(tiny_path: Path) -> Execution:
    execution = Execution(model_folder.inspect(tiny_path, name="tiny"), device=torch.device("cpu"))
    execution.use("fp16")
    return execution


@pytest.fixture
def latents() -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn((1, 4, FRAMES, 8, 8), generator=generator).half()


@pytest.fixture
def overflowing(half: Execution) -> Iterator[Callable[..., list[torch.dtype]]]:
    """Let the decoder give `value` everywhere at its `number`th frame, while it computes in `dtype`."""
    handles = []

    def install(value: float, *, number: int = 2, dtype: torch.dtype = torch.float16) -> list[torch.dtype]:
        ran: list[torch.dtype] = []

        def spoil(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            ran.append(output.dtype)
            return torch.full_like(output, value) if len(ran) == number and output.dtype == dtype else output

        handles.append(half.components.vae.decoder.register_forward_hook(spoil))
        return ran

    yield install
    for handle in handles:
        handle.remove()


def test_frames_decoded_one_by_one_are_those_decoded_at_once(half: Execution, latents: torch.Tensor) -> None:
    half.use("fp32")
    one_by_one = np.stack(list(decode(half, latents.float())))
    with torch.inference_mode():
        vae = half.components.vae
        sample = vae.decode(latents.float()[0].transpose(0, 1) / vae.config.scaling_factor, return_dict=False)[0]
    at_once = (sample / 2 + 0.5).clamp(0, 1).mul(255).round().permute(0, 2, 3, 1).numpy()
    assert one_by_one.shape == (FRAMES, 64, 64, 3)
    assert one_by_one.dtype == np.uint8
    assert np.abs(one_by_one.astype(int) - at_once).max() <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_frame_that_is_not_finite_is_named_after_those_before_it(
    value: float, half: Execution, latents: torch.Tensor, overflowing: Callable[..., object]
) -> None:
    overflowing(value)
    frames = decode(half, latents)
    next(frames)
    with pytest.raises(NonFiniteFrame, match=rf"frame 2 of {FRAMES} is not finite \(torch.float16\)"):
        next(frames)


def test_latents_that_are_not_finite_make_no_frame(half: Execution, latents: torch.Tensor) -> None:
    latents[:, :, 1, 3, 3] = torch.nan
    frames = decode(half, latents)
    next(frames)
    with pytest.raises(NonFiniteFrame, match="frame 2"):
        next(frames)


def test_a_black_frame_is_named_unless_it_is_accepted(
    half: Execution, latents: torch.Tensor, overflowing: Callable[..., object]
) -> None:
    overflowing(-0.995)  # level 1 of 255
    with pytest.raises(BlackFrame, match=rf"frame 2 of {FRAMES} is black"):
        list(decode(half, latents))
    overflowing(-0.995, number=5)
    assert len(list(decode(half, latents, accept_black=True))) == FRAMES


def test_a_dark_frame_is_not_black(half: Execution, latents: torch.Tensor, overflowing: Callable[..., object]) -> None:
    overflowing(-0.98)  # level 3
    assert list(decode(half, latents))[1].max() == 3


def test_the_same_latents_everywhere_may_stand_for_black(
    half: Execution, latents: torch.Tensor, overflowing: Callable[..., object]
) -> None:
    overflowing(-1.0)
    latents[:, :, 1] = 0.5
    assert list(decode(half, latents))[1].max() == 0


def test_another_precision_holds_for_this_decode_alone(
    half: Execution, latents: torch.Tensor, overflowing: Callable[..., list[torch.dtype]]
) -> None:
    ran = overflowing(float("nan"))
    frames = np.stack(list(decode(half, latents, dtype=torch.float32)))
    assert ran == [torch.float32] * FRAMES
    assert half.components.vae.dtype == torch.float16
    plain = np.stack(list(decode(half, latents)))
    assert np.abs(frames.astype(int) - plain).max() <= 4


def test_a_decode_that_is_left_off_puts_everything_back(half: Execution, latents: torch.Tensor) -> None:
    half.use("fp16-offload")
    host = next(half.components.vae.parameters()).data_ptr()
    frames = decode(half, latents, dtype=torch.float32)
    next(frames)
    frames.close()  # type: ignore[attr-defined]  # it is a generator
    assert half.components.vae.dtype == torch.float16
    assert next(half.components.vae.parameters()).data_ptr() != 0 != host


def test_another_plan_may_be_taken_up_while_a_decode_is_left_open(half: Execution, latents: torch.Tensor) -> None:
    half.use("fp16-offload")
    frames = decode(half, latents)
    next(frames)
    half.use("fp32")
    frames.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(list(decode(half, latents.float()))) == FRAMES
