"""What each plan promises about its pixels and its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scheduler.plans import PLANS, Precision, Technique
from scheduler.shape import Shape
from tests.support.movers import RecordingMover
from tests.support.plan_runs import SMALL_PIECE, distance, run
from workers import model_folder
from workers.pipelines import chunking, tiling
from workers.pipelines.counting import Networks
from workers.pipelines.execution import Execution
from workers.pipelines.live_bytes import LiveBytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from tests.support.plan_runs import Outcome
    from workers.pipelines.request import GenerationRequest

# The published FP16 files: UNet 2.84 GB, image encoder 1.26, text encoder 0.68, VAE 0.17.
_WEIGHTS_BYTES = 4.97e9

SEEDS = (7, 9)


@pytest.fixture(scope="module")
def outcomes(
    tiny_path: Path, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> dict[tuple[str, int], Outcome]:
    """Each plan's video without guidance, by plan and seed, from one model that goes from plan to plan."""
    folder = model_folder.inspect(tiny_path, name="tiny")
    execution = Execution(
        folder,
        device=torch.device("cpu"),
        mover=RecordingMover(),
        piece_elements=SMALL_PIECE,
        band_elements=SMALL_PIECE,
    )
    return {
        (plan, seed): run(
            execution,
            plan,
            make_request(width=96, num_frames=3, num_inference_steps=6, guidance_scale=1.0, seed=seed),
            make_image(),
        )
        for plan in PLANS
        for seed in SEEDS
    }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLANS)
def test_a_plans_latents_are_as_near_its_references_as_it_says(
    name: str, seed: int, outcomes: dict[tuple[str, int], Outcome], record_property: Callable[[str, object], None]
) -> None:
    plan = PLANS[name]
    error = distance(outcomes[name, seed].latents, outcomes[plan.reference, seed].latents)
    record_property("figure", f"plan {name}, tiny, seed {seed}: {error:.1e} from {plan.reference}")
    assert error <= plan.max_error
    if plan.precision is Precision.INT8:
        assert error > 0.001, "eight bits are not sixteen"


def test_pieces_in_float16_are_the_whole_bit_for_bit_on_a_cpu(outcomes: dict[tuple[str, int], Outcome]) -> None:
    assert torch.equal(outcomes["fp16-chunked", 7].latents, outcomes["fp16", 7].latents)


def test_frames_in_bands_are_one_level_off_at_most(outcomes: dict[tuple[str, int], Outcome]) -> None:
    for name in ("fp32-chunked", "fp16-chunked"):
        difference = np.abs(outcomes[name, 7].frames - outcomes[PLANS[name].reference, 7].frames)
        assert difference.max() <= 1
        assert difference.mean() < 0.1


@pytest.mark.parametrize("name", ["fp16-offload", "fp16-streamed"])
def test_moving_weights_changes_nothing(name: str, outcomes: dict[tuple[str, int], Outcome]) -> None:
    assert torch.equal(outcomes[name, 7].latents, outcomes["fp16-chunked", 7].latents)
    assert np.array_equal(outcomes[name, 7].frames, outcomes["fp16-chunked", 7].frames)


def test_float16_is_near_float32(outcomes: dict[tuple[str, int], Outcome]) -> None:
    """What the bound of the plans in pieces is made of: rounding by itself."""
    for seed in SEEDS:
        error = distance(outcomes["fp16", seed].latents, outcomes["fp32", seed].latents)
        assert 0.001 < error < 0.5 * PLANS["fp16-chunked"].max_error


@pytest.fixture(scope="module")
def published() -> Networks:
    return Networks.published()


def peak(call: Callable[[], None]) -> int:
    with LiveBytes() as live:
        call()
    return live.peak_bytes


@pytest.mark.parametrize(
    "shape", [Shape(512, 512, 16), Shape(768, 768, 16), Shape(768, 768, 24), Shape(1024, 1024, 32)], ids=lambda s: s.key
)
def test_in_pieces_the_published_size_needs_far_less(
    shape: Shape, published: Networks, record_property: Callable[[str, object], None]
) -> None:
    """Live tensors at the widest point, in float16, with all weights resident: at least 19 % less."""
    stages = {"step": published.step, "decode": published.decode, "encode": published.encode}
    whole = {name: peak(lambda stage=stage: stage(shape)) for name, stage in stages.items()}
    chunking.install(published.unet)
    tiling.install(published.vae)
    try:
        pieces = {name: peak(lambda stage=stage: stage(shape)) for name, stage in stages.items()}
    finally:
        chunking.remove(published.unet)
        tiling.remove(published.vae)
    record_property(
        "figure",
        f"{shape.key}, live GB whole / in pieces: "
        + ", ".join(f"{name} {whole[name] / 1e9:.2f} / {pieces[name] / 1e9:.2f}" for name in stages),
    )
    assert all(pieces[name] < whole[name] for name in stages)
    assert _WEIGHTS_BYTES + max(pieces.values()) <= 0.81 * (_WEIGHTS_BYTES + max(whole.values()))
    assert _WEIGHTS_BYTES + max(pieces.values()) < 0.5 * 24e9, "cuDNN and the allocator may take as much again"


def test_the_techniques_build_on_each_other() -> None:
    order = [Technique.WHOLE, Technique.CHUNKED, Technique.OFFLOADED, Technique.STREAMED]
    techniques = [plan.technique for plan in PLANS.values() if plan.precision is Precision.FLOAT16]
    assert techniques == order, "from the fastest to the leanest"
