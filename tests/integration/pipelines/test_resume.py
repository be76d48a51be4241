"""A run may stop after any step and go on, here or elsewhere, to the very same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.support.runs import advance, frames
from workers import checkpoints
from workers.pipelines.i2vgen_xl import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from workers.pipelines.i2vgen_xl import I2VGenXL, Run
    from workers.pipelines.request import GenerationRequest

STEPS = 12


@pytest.fixture
def prepared(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[..., Run]:
    def prepare(**changes: object) -> Run:
        return tiny.prepare(make_request(**{"num_inference_steps": STEPS, **changes}), make_image())

    return prepare


@pytest.mark.parametrize(("preset", "steps"), [("standard", 6), ("fast", STEPS)])
def test_a_run_continued_from_any_step_is_bit_identical(
    preset: str, steps: int, tiny: I2VGenXL, prepared: Callable[..., Run]
) -> None:
    """Through a checkpoint's bytes, encoded before or after."""
    whole = prepared(preset=preset, num_inference_steps=steps)
    whole.encode()
    of = checkpoints.fingerprint("tiny", whole.request, "fp32")
    saved = {}
    for _ in range(steps):
        tiny.step([whole]).wait()
        snapshot = whole.snapshot()
        saved[snapshot.step] = checkpoints.dump(snapshot, of)
    expected = frames(whole)

    assert {1, steps} < saved.keys()
    assert sorted(saved) == [step for step in range(1, steps + 1) if whole.is_resumable(step)]
    for encode_first in (True, False):
        for step, data in saved.items():
            continued = prepared(preset=preset, num_inference_steps=steps)
            if encode_first:
                continued.encode()
            continued.resume(checkpoints.load(data, of, continued))
            assert continued.index == continued.snapshot().step == step
            if not encode_first and step < steps:
                continued.encode()
            advance(tiny, continued)
            assert torch.equal(continued.latents, whole.latents)
            assert np.array_equal(frames(continued), expected)


def test_a_standard_run_can_be_resumed_at_every_step(prepared: Callable[..., Run]) -> None:
    run = prepared()
    assert [step for step in range(-1, STEPS + 2) if run.is_resumable(step)] == list(range(STEPS + 1))


@pytest.mark.parametrize("preset", ["standard", "fast"])
def test_a_run_rewound_makes_the_same_video(preset: str, tiny: I2VGenXL, prepared: Callable[..., Run]) -> None:
    run = prepared(preset=preset)
    run.encode()
    advance(tiny, run)
    expected = run.latents
    run.rewind()
    assert run.index == run.snapshot().step == 0
    advance(tiny, run, to=5)
    kept = run.snapshot()
    advance(tiny, run, to=9)
    run.rewind(kept)
    assert run.index == kept.step
    advance(tiny, run)
    assert torch.equal(run.latents, expected)


def test_a_step_from_before_a_rewind_counts_no_more(tiny: I2VGenXL, prepared: Callable[..., Run]) -> None:
    run = prepared()
    run.encode()
    late = tiny.step([run])
    run.rewind()
    assert late.wait() == (True,)
    assert run.snapshot().step == 0
    tiny.step([run]).wait()
    assert run.snapshot().step == 1


def test_a_snapshot_is_the_last_good_step_and_does_not_change(tiny: I2VGenXL, prepared: Callable[..., Run]) -> None:
    run = prepared()
    run.encode()
    advance(tiny, run, to=3)
    snapshot = run.snapshot()
    before = snapshot.latents.clone()
    assert torch.equal(before, run.latents)
    run.latents = torch.full_like(run.latents, torch.inf)
    assert tiny.step([run]).wait() == (False,)
    assert run.index == 4
    assert run.snapshot().step == 3
    assert torch.equal(run.snapshot().latents, before)
    assert torch.equal(snapshot.latents, before)


def test_the_state_before_the_first_step_needs_no_plan(
    tiny: I2VGenXL,
    half: I2VGenXL,
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
) -> None:
    snapshot = tiny.prepare(make_request(), make_image()).snapshot()
    assert (snapshot.step, snapshot.latents.dtype) == (0, torch.float32)
    latents = []
    for before in (None, snapshot):
        run = half.prepare(make_request(), make_image())
        run.rewind(before)
        run.encode()
        advance(half, run)
        latents.append(run.latents)
    assert torch.equal(*latents)


def test_latents_of_another_precision_are_not_gone_on_with(
    half: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    run = half.prepare(make_request(), make_image())
    run.resume(Snapshot(run.latents, 1))
    run.encode()
    with pytest.raises(RuntimeError, match=r"has latents in torch.float32, and the plan wants torch.float16"):
        half.step([run])
    assert run.index == 1


def test_the_unet_may_go_on_in_a_safer_dtype(
    half: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    """The latents stay what they were, so that the run's checkpoints do too."""
    run = half.prepare(make_request(num_inference_steps=4), make_image())
    run.encode()
    advance(half, run, to=2)
    kept = run.snapshot()
    advance(half, run)
    expected = run.latents.float()
    half.execution.unet_dtype(torch.bfloat16)
    try:
        run.rewind(kept)
        advance(half, run)
    finally:
        half.execution.unet_dtype(torch.float16)
    assert run.latents.dtype == torch.float16
    assert 0 < (run.latents.float() - expected).square().mean().sqrt() < 0.1


def test_latents_of_another_run_are_refused(tiny: I2VGenXL, prepared: Callable[..., Run]) -> None:
    run = prepared()
    with pytest.raises(ValueError, match=r"shape \(1, 4, 3, 8, 8\)"):
        run.resume(Snapshot(torch.zeros(1, 4, 3, 8, 8), 1))
    for step in (-1, STEPS + 1):
        with pytest.raises(ValueError, match=f"cannot go on after step {step}$"):
            run.resume(Snapshot(run.latents, step))
    fast = prepared(preset="fast")
    reused = next(step for step in range(STEPS) if not fast.is_resumable(step))
    with pytest.raises(ValueError, match=f"cannot go on after step {reused}$"):
        fast.resume(Snapshot(fast.latents, reused))
    assert run.index == fast.index == 0
