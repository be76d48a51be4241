"""`torch.compile` of the UNet: the same latents up to rounding, compiled once for each shape, in the folder named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.support.runs import advance
from workers.pipelines import compiling
from workers.pipelines.i2vgen_xl import I2VGenXL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from PIL import Image

    from workers.pipelines.i2vgen_xl import Run
    from workers.pipelines.request import GenerationRequest


@pytest.fixture
def graphs() -> list[torch.fx.GraphModule]:
    return []


@pytest.fixture
def compiled(
    tiny: I2VGenXL, graphs: list[torch.fx.GraphModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[I2VGenXL]:
    """The tiny model, its graphs captured and run as they are: generating C++ takes minutes."""

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(compiling, "BACKEND", backend)
    yield I2VGenXL(tiny.execution, compile_dir=tmp_path / "compiled")
    torch.compiler.reset()


@pytest.fixture
def prepare(
    make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[..., Run]:
    def encoded(model: I2VGenXL, **changes: object) -> Run:
        run = model.prepare(make_request(**changes), make_image())
        run.encode()
        return run

    return encoded


def test_a_compiled_run_makes_the_same_latents(
    tiny: I2VGenXL, compiled: I2VGenXL, prepare: Callable[..., Run], graphs: list[torch.fx.GraphModule], tmp_path: Path
) -> None:
    assert compiled.compiled
    assert not tiny.compiled
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")
    one, other = prepare(compiled), prepare(compiled, seed=1)
    advance(compiled, one, to=1)
    compiled_once = len(graphs)
    assert compiled_once > 0
    advance(compiled, one)
    advance(compiled, other)
    assert len(graphs) == compiled_once
    for run in (one, other):
        expected = prepare(tiny, seed=run.request.seed)
        advance(tiny, expected)
        assert float((run.latents - expected.latents).abs().max()) < 1e-4


def test_a_run_of_the_fast_preset_is_not_compiled(
    compiled: I2VGenXL, prepare: Callable[..., Run], graphs: list[torch.fx.GraphModule]
) -> None:
    run = prepare(compiled, num_inference_steps=8, preset="fast")
    advance(compiled, run)
    assert graphs == []
