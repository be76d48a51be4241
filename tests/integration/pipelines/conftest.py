"""The tiny model, made once and loaded once for all tests here, and the small requests they run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.runs import advance, frames
from workers import model_folder
from workers.pipelines.i2vgen_xl import I2VGenXL
from workers.pipelines.request import GenerationRequest
from workers.pipelines.tiny import make_tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run beside each other: one core each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny(path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> I2VGenXL:
    folder = model_folder.inspect(tiny_path, name="tiny")
    return I2VGenXL.load(folder, device=torch.device("cpu"), plan="fp32")


@pytest.fixture(scope="session")
def half(tiny_path: Path) -> I2VGenXL:
    """The GPU's precision, on the CPU."""
    folder = model_folder.inspect(tiny_path, name="tiny")
    return I2VGenXL.load(folder, device=torch.device("cpu"), plan="fp16")


@pytest.fixture(scope="session")
def make_request() -> Callable[..., GenerationRequest]:
    def make(**changes: object) -> GenerationRequest:
        parameters = {
            "prompt": "waves on the sea",
            "negative_prompt": None,
            "width": 64,
            "height": 64,
            "num_frames": 2,
            "num_inference_steps": 2,
            "guidance_scale": 9.0,
            "target_fps": 8,
            "seed": 7,
        }
        return GenerationRequest(**{**parameters, **changes})  # type: ignore[arg-type]  # one dict, many types

    return make


@pytest.fixture(scope="session")
def make_image() -> Callable[..., Image.Image]:
    def make(width: int = 100, height: int = 80, seed: int = 0) -> Image.Image:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return make


@pytest.fixture(scope="session")
def generate(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[..., np.ndarray]:
    """Run the whole pipeline: frames as one array (frames, height, width, 3), uint8."""

    def run(image: Image.Image | None = None, **changes: object) -> np.ndarray:
        video = tiny.prepare(make_request(**changes), image or make_image())
        video.encode()
        advance(tiny, video)
        return frames(video)

    return run
