"""Several runs in one forward pass: they join and leave between steps, and each makes the video it makes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.support.runs import advance
from workers import model_folder
from workers.pipelines.execution import Execution
from workers.pipelines.i2vgen_xl import I2VGenXL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from workers.pipelines.i2vgen_xl import Run
    from workers.pipelines.request import GenerationRequest

# A larger batch is summed in another order, and guidance multiplies the difference; latents spread about 1.
TOLERANCE = 1e-4


@pytest.fixture
def encoded(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[..., Run]:
    def prepare(image_seed: int = 0, **changes: object) -> Run:
        run = tiny.prepare(make_request(**changes), make_image(seed=image_seed))
        run.encode()
        return run

    return prepare


def alone(model: I2VGenXL, run: Run) -> torch.Tensor:
    advance(model, run)
    return run.latents


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def test_runs_join_and_leave_at_different_steps(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    wanted: list[dict[str, Any]] = [
        {"num_inference_steps": 4},
        {"num_inference_steps": 6, "seed": 1, "guidance_scale": 3.5, "prompt": "a desert", "target_fps": 24},
        {"num_inference_steps": 3, "seed": 2, "guidance_scale": 1.0, "image_seed": 1},
    ]
    expected = [alone(tiny, encoded(**changes)) for changes in wanted]
    first, second, third = runs = [encoded(**changes) for changes in wanted]
    for company in ([first], [first, second], [second, first, third], [third, second, first], [second, third]):
        assert tiny.step(company).wait() == (True,) * len(company)
    advance(tiny, second)
    assert [run.index for run in runs] == [4, 6, 3]
    for run, latents in zip(runs, expected, strict=True):
        assert difference(run.latents, latents) < TOLERANCE
    assert difference(expected[0], expected[1]) > 0.5


def test_a_run_alone_does_not_notice_what_ran_before(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    expected = alone(tiny, encoded())
    run, other = encoded(), encoded(seed=1, num_inference_steps=4)
    tiny.step([other]).wait()
    tiny.step([run]).wait()
    tiny.step([other]).wait()
    assert torch.equal(alone(tiny, run), expected)


def test_the_conditioning_of_the_same_company_is_joined_once(
    tiny: I2VGenXL, encoded: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.pipelines import encode

    joined: list[int] = []
    join = encode.join
    monkeypatch.setattr(encode, "join", lambda parts: joined.append(len(parts)) or join(parts))
    runs = [encoded(num_inference_steps=6, seed=seed) for seed in range(3)]
    for company in (runs, runs, runs[:2], runs[:2], runs[:1], runs):
        tiny.step(company).wait()
    assert joined == [3, 2, 3]


def test_a_run_that_is_not_finite_leaves_the_others_alone(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    good, bad = encoded(), encoded(seed=1)
    bad.latents = torch.full_like(bad.latents, torch.nan)
    step = tiny.step([bad, good])
    assert step.wait() == (False, True)
    assert step.wait() == (False, True)
    assert (bad.snapshot().step, good.snapshot().step) == (0, 1)
    assert difference(alone(tiny, good), alone(tiny, encoded())) < TOLERANCE


def test_the_next_step_may_be_given_before_the_last_is_waited_for(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    run = encoded(num_inference_steps=3)
    steps = [tiny.step([run]) for _ in range(3)]
    assert (run.index, run.snapshot().step) == (3, 0)
    assert [step.wait() for step in steps] == [(True,)] * 3
    assert run.snapshot().step == 3
    assert torch.equal(run.snapshot().latents, alone(tiny, encoded(num_inference_steps=3)))


@pytest.mark.parametrize("plan", ["fp32-chunked", "fp16-chunked", "fp16-offload", "fp16-streamed", "int8"])
def test_every_plan_shares_steps_and_reuses_attention(
    plan: str, tiny_path: Path, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    """In pieces far smaller than the tiny model's own tensors."""
    execution = Execution(model_folder.inspect(tiny_path), device=torch.device("cpu"), piece_elements=2**12)
    execution.use(plan)
    model = I2VGenXL(execution)

    def encoded(seed: int, **changes: object) -> Run:
        run = model.prepare(make_request(seed=seed, guidance_scale=2.0, **changes), make_image(seed=seed))
        run.encode()
        return run

    expected = [alone(model, encoded(seed)) for seed in (0, 1)]
    runs = [encoded(seed) for seed in (0, 1)]
    for _ in range(2):
        assert model.step(runs).wait() == (True, True)
    for run, latents in zip(runs, expected, strict=True):
        assert run.latents.dtype == latents.dtype == model.latents_dtype
        assert difference(run.latents.float(), latents.float()) < (0.05 if plan != "fp32-chunked" else TOLERANCE)

    standard = alone(model, encoded(0, num_inference_steps=8)).float()
    fast = alone(model, encoded(0, num_inference_steps=8, preset="fast")).float()
    assert 0 < (fast - standard).square().mean().sqrt() < 0.3


def test_company_that_cannot_be_is_refused_and_nobody_moves(tiny: I2VGenXL, encoded: Callable[..., Run]) -> None:
    run, wide, fast = encoded(), encoded(width=72), encoded(preset="fast", seed=3)
    done = encoded()
    advance(tiny, done)
    for company, error, message in (
        ([], ValueError, "one run or several"),
        ([run, run], ValueError, "each once"),
        ([run, wide], ValueError, "different sizes"),
        ([run, fast], ValueError, "fast preset shares"),
        ([fast, encoded(preset="fast")], ValueError, "fast preset shares"),
        ([run, done], IndexError, "all 2 steps are done"),
    ):
        with pytest.raises(error, match=message):
            tiny.step(company)
    assert run.index == wide.index == fast.index == 0


def test_a_step_that_fails_moves_nobody(
    tiny: I2VGenXL, encoded: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [encoded(), encoded(seed=1)]
    tiny.step(runs).wait()

    def fail(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.execution.components.unet, "forward", fail)
        with pytest.raises(torch.OutOfMemoryError):
            tiny.step(runs)
    assert [run.index for run in runs] == [1, 1]
    assert tiny.step(runs).wait() == (True, True)
    for seed, run in enumerate(runs):
        assert difference(run.latents, alone(tiny, encoded(seed=seed if seed else 7))) < TOLERANCE


def test_a_step_needs_what_encode_makes(
    tiny: I2VGenXL, encoded: Callable[..., Run], make_request: Callable[..., GenerationRequest], make_image: Any
) -> None:
    run = tiny.prepare(make_request(), make_image())
    for company in ([run], [encoded(seed=1), run]):
        with pytest.raises(RuntimeError, match=r"encode\(\) comes before step"):
            tiny.step(company)
    assert run.index == 0
