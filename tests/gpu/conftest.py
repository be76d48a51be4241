"""The tiny model on a GPU. Without one all tests here are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from workers import model_folder
from workers.pipelines import runtime
from workers.pipelines.execution import Execution
from workers.pipelines.request import GenerationRequest
from workers.pipelines.tiny import make_tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.model_folder import ModelFolder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="needs an NVIDIA GPU")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def device() -> torch.device:
    found = torch.device("cuda", 0)
    runtime.configure(found)
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    path = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny(path)
    return model_folder.inspect(path, name="tiny")


@pytest.fixture
def execution(folder: ModelFolder, device: torch.device) -> Iterator[Execution]:
    held = Execution(folder, device=device, piece_elements=700, band_elements=700)
    yield held
    held.unload()


@pytest.fixture(scope="session")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def make_request() -> Callable[..., GenerationRequest]:
    def make(**changes: object) -> GenerationRequest:
        parameters = {
            "prompt": "waves on the sea",
            "negative_prompt": None,
            "width": 96,
            "height": 64,
            "num_frames": 3,
            "num_inference_steps": 6,
            "guidance_scale": 1.0,
            "target_fps": 8,
            "seed": 7,
        }
        return GenerationRequest(**{**parameters, **changes})  # type: ignore[arg-type]  # one dict, many types

    return make
