"""The `fast` preset: when it reuses, how far it strays, what it saves, and that it leaves no trace on other runs."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import I2VGenXLUNet
from torch.utils.flop_counter import FlopCounterMode

from tests.support.runs import advance
from workers.pipelines import broadcast
from workers.pipelines.broadcast import PERIOD, Broadcast, is_fresh, window

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from workers.pipelines.i2vgen_xl import I2VGenXL, Run
    from workers.pipelines.request import GenerationRequest

STEPS = 12


@pytest.fixture
def encoded(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[..., Run]:
    def prepare(**changes: object) -> Run:
        run = tiny.prepare(make_request(**{"num_inference_steps": STEPS, **changes}), make_image())
        run.encode()
        return run

    return prepare


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 12, 30, 50, 80, 100])
def test_the_window_is_whole_periods_away_from_both_ends(steps: int) -> None:
    reused = window(steps)
    assert len(reused) % PERIOD == 0
    assert reused.start >= 1
    assert reused.stop <= steps
    assert is_fresh(0, steps)
    assert is_fresh(steps, steps)
    assert is_fresh(steps - 1, steps) or steps < 10
    runs_of_stale = "".join("f" if is_fresh(step, steps) else "s" for step in range(steps)).split("f")
    assert {len(stale) for stale in runs_of_stale} <= {0, PERIOD - 1}
    assert len(reused) >= steps // 2 or steps < 12


@pytest.mark.parametrize("guidance_scale", [9.0, 1.0])
def test_it_strays_no_further_than_it_says(
    guidance_scale: float,
    tiny: I2VGenXL,
    encoded: Callable[..., Run],
    record_property: Callable[[str, object], None],
) -> None:
    latents = {}
    for preset in ("standard", "fast"):
        run = encoded(preset=preset, guidance_scale=guidance_scale, num_inference_steps=50, num_frames=4)
        advance(tiny, run)
        latents[preset] = run.latents
    error = (latents["fast"] - latents["standard"]).square().mean().sqrt() / latents["standard"].square().mean().sqrt()
    record_property("figure", f"fast preset, tiny, 50 steps, guidance {guidance_scale}: relative RMS error {error:.3f}")
    assert 0 < error < broadcast.MAX_ERROR[guidance_scale > 1]


def test_it_keeps_outputs_only_where_they_are_reused(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    run = encoded(preset="fast")
    assert run.broadcast is not None
    kept = []
    for _ in range(STEPS):
        tiny.step([run]).wait()
        kept.append(run.broadcast.cached_bytes > 0)
    assert kept == [step in window(STEPS) and step + 1 in window(STEPS) for step in range(STEPS)]
    run.rewind()
    advance(tiny, run, to=window(STEPS).start + 1)
    run.decode()
    assert run.broadcast.cached_bytes == 0


def test_a_run_between_its_steps_does_not_notice_it(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    expected = encoded(seed=1)
    advance(tiny, expected)
    alone = encoded(preset="fast")
    advance(tiny, alone)
    standard, fast, other = encoded(seed=1), encoded(preset="fast"), encoded(preset="fast", seed=2)
    for _ in range(STEPS):
        tiny.step([fast])
        tiny.step([standard])
        tiny.step([other])
    assert torch.equal(standard.latents, expected.latents)
    assert torch.equal(fast.latents, alone.latents)
    assert not torch.equal(other.latents, alone.latents)


def test_a_step_that_fails_leaves_the_unet_as_it_was(
    tiny: I2VGenXL, encoded: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encoded(preset="fast")
    advance(tiny, expected)
    run = encoded(preset="fast")
    advance(tiny, run, to=window(STEPS).start + 2)
    unet = tiny.execution.components.unet
    before = [module.__dict__.get("forward") for module in unet.modules()]

    def fail(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(unet.conv_out, "forward", fail)
        with pytest.raises(torch.OutOfMemoryError):
            tiny.step([run])
    assert [module.__dict__.get("forward") for module in unet.modules()] == before
    run.rewind(run.snapshot())
    assert run.index == window(STEPS).start
    advance(tiny, run)
    assert torch.equal(run.latents, expected.latents)


def test_what_it_saves_and_keeps_at_the_published_size() -> None:
    with torch.device("meta"):
        unet = I2VGenXLUNet().eval().half()
    steps, size = 50, (2, 4, 16, 64, 64)
    run = Broadcast(steps)

    def flops(index: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.inference_mode(), run.applied(unet, index):
            unet(
                torch.empty(size, device="meta", dtype=torch.float16),
                torch.empty(2, device="meta", dtype=torch.int64),
                fps=torch.empty(2, device="meta", dtype=torch.int64),
                image_latents=torch.empty(size, device="meta", dtype=torch.float16),
                image_embeddings=torch.empty(2, 1, 1024, device="meta", dtype=torch.float16),
                encoder_hidden_states=torch.empty(2, 77, 1024, device="meta", dtype=torch.float16),
            )
        return counter.get_total_flops()

    full = flops(window(steps).start)
    assert run.cached_bytes == broadcast.KEPT_PER_LATENT_VALUE * 2 * (4 * 16 * 64 * 64)
    stale = sum(not is_fresh(step, steps) for step in range(steps))
    share = (stale * flops(window(steps).start + 1) / full + (steps - stale)) / steps
    assert share == pytest.approx(broadcast.FLOPS_SHARE["512x512x16"], abs=0.001)


def test_a_module_that_a_plan_has_taken_over_stays_so(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    module = tiny.execution.components.unet.transformer_in
    module.forward = mine = functools.partial(type(module).forward, module)
    with contextlib.ExitStack() as stack:
        stack.callback(module.__dict__.pop, "forward")
        run = encoded(preset="fast")
        advance(tiny, run)
        assert module.__dict__["forward"] is mine
    again = encoded(preset="fast")
    advance(tiny, again)
    assert torch.equal(again.latents, run.latents)
