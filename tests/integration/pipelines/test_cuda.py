"""What only a GPU can show: that nothing waits for it, and that copies made beside its work are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.support.runs import advance, frames
from workers import model_folder
from workers.pipelines import runtime
from workers.pipelines.i2vgen_xl import I2VGenXL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from PIL import Image

    from workers.pipelines.i2vgen_xl import Run
    from workers.pipelines.request import GenerationRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
]


@pytest.fixture(scope="module")
def model(tiny_path: Path) -> I2VGenXL:
    runtime.configure(torch.device("cuda", 0))
    return I2VGenXL.load(model_folder.inspect(tiny_path), device=torch.device("cuda", 0), plan="fp16")


@pytest.fixture
def encoded(
    model: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[..., Run]:
    def prepare(**changes: object) -> Run:
        run = model.prepare(make_request(**{"num_inference_steps": 8, **changes}), make_image())
        run.encode()
        return run

    return prepare


@pytest.fixture
def no_waiting() -> Iterator[Callable[[bool], None]]:
    yield lambda forbidden: torch.cuda.set_sync_debug_mode("error" if forbidden else "default")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("preset", ["standard", "fast"])
def test_a_step_is_given_without_waiting_for_the_gpu(
    preset: str, model: I2VGenXL, encoded: Callable[..., Run], no_waiting: Callable[[bool], None]
) -> None:
    runs = [encoded(preset=preset)] if preset == "fast" else [encoded(), encoded(seed=1, guidance_scale=1.0)]
    model.step(runs).wait()
    no_waiting(True)
    steps = [model.step(runs) for _ in range(7)]
    no_waiting(False)
    assert all(all(step.wait()) for step in steps)


@pytest.mark.parametrize("preset", ["standard", "fast"])
def test_resumed_from_any_snapshot_it_is_bit_identical(
    preset: str, model: I2VGenXL, encoded: Callable[..., Run]
) -> None:
    whole = encoded(preset=preset)
    snapshots = []
    before = None
    for _ in range(whole.steps):
        step = model.step([whole])
        if before is not None:
            before.wait()
            snapshots.append(whole.snapshot())  # while the next step runs
        before = step
    assert before is not None
    assert before.wait() == (True,)
    snapshots.append(whole.snapshot())
    for snapshot in snapshots:
        continued = encoded(preset=preset)
        continued.resume(snapshot)
        advance(model, continued)
        assert torch.equal(continued.latents, whole.latents)
    assert np.array_equal(frames(continued), frames(whole))


def test_what_the_cache_gives_is_what_the_encoders_gave(model: I2VGenXL, encoded: Callable[..., Run]) -> None:
    model.embeddings.clear()
    runs = [encoded(), encoded()]
    for run in runs:
        advance(model, run)
    assert torch.equal(runs[0].latents, runs[1].latents)


def test_the_allocator_can_be_capped() -> None:
    device = torch.device("cuda", 0)
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    runtime.cap_memory(device, torch.cuda.memory_reserved(device) + 256 * 1024 * 1024)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(512 * 1024 * 1024, dtype=torch.uint8, device=device)
    finally:
        runtime.cap_memory(device, total_bytes)
    torch.empty(512 * 1024 * 1024, dtype=torch.uint8, device=device)
