"""What only a GPU can show of the plans: its kernels, its two memories, its streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scheduler.plans import GPU_PLANS, PLANS
from tests.support.plan_runs import distance, run
from workers.pipelines.components import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from tests.support.plan_runs import Outcome
    from workers.pipelines.execution import Execution
    from workers.pipelines.request import GenerationRequest


@pytest.fixture
def video(
    execution: Execution, image: Image.Image, make_request: Callable[..., GenerationRequest]
) -> Callable[..., Outcome]:
    return lambda plan, **changes: run(execution, plan, make_request(**changes), image)


@pytest.mark.parametrize("name", GPU_PLANS)
def test_a_plans_latents_are_as_near_its_references_as_it_says(
    name: str, video: Callable[..., Outcome], record_property: Callable[[str, object], None]
) -> None:
    plan = PLANS[name]
    error = distance(video(name).latents, video(plan.reference).latents)
    record_property(
        "figure", f"plan {name}, tiny, on {torch.cuda.get_device_name()}: {error:.1e} from {plan.reference}"
    )
    assert error <= plan.max_error


@pytest.mark.parametrize("name", ["fp16-offload", "fp16-streamed"])
def test_moving_weights_changes_nothing(name: str, video: Callable[..., Outcome]) -> None:
    expected, moved = video("fp16-chunked", guidance_scale=9.0), video(name, guidance_scale=9.0)
    assert torch.equal(moved.latents, expected.latents)
    assert np.array_equal(moved.frames, expected.frames)


def test_a_plan_gives_the_same_bytes_each_time(video: Callable[..., Outcome]) -> None:
    for name in GPU_PLANS:
        assert torch.equal(video(name).latents, video(name).latents), name


@pytest.mark.parametrize("name", GPU_PLANS)
def test_the_device_holds_what_the_plan_says(name: str, execution: Execution, device: torch.device) -> None:
    before = torch.cuda.memory_allocated(device)
    execution.use(name)
    held = torch.cuda.memory_allocated(device) - before
    tensors = sum(len(list(getattr(execution.components, part).parameters())) for part in NETWORKS)
    rounding = 512 * tensors * (3 if name == "int8" else 1)
    assert execution.resident_bytes() <= held <= execution.resident_bytes() + rounding
    execution.unload()
    assert torch.cuda.memory_allocated(device) == before


def test_what_a_plan_parks_is_off_the_device_unless_it_is_used(execution: Execution, device: torch.device) -> None:
    execution.use("fp16-offload")
    between = torch.cuda.memory_allocated(device)
    for part in ("text_encoder", "image_encoder", "vae"):
        with execution.loaded(part):
            assert next(getattr(execution.components, part).parameters()).device == device
            assert torch.cuda.memory_allocated(device) > between
        assert torch.cuda.memory_allocated(device) == between


def test_attention_over_time_takes_a_sequence_for_each_pixel_of_the_largest_videos(device: torch.device) -> None:
    """1536 by 1536 pixels with guidance, or two videos of 1024 by 1024: beyond 65,535, where CUDA grids end."""
    query = torch.randn(2 * 192 * 192, 5, 4, 64, dtype=torch.float16, device=device)
    with torch.inference_mode():
        whole = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        first = torch.nn.functional.scaled_dot_product_attention(query[:8], query[:8], query[:8])
    assert torch.allclose(whole[:8], first, atol=1e-2)
    assert whole.isfinite().all()
