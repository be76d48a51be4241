"""One video under each plan, to compare what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.runs import advance, frames
from workers.pipelines.i2vgen_xl import I2VGenXL

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from workers.pipelines.execution import Execution
    from workers.pipelines.request import GenerationRequest

SMALL_PIECE = 700
"""Elements of a piece so small that the tiny model at 64 by 96 pixels is cut everywhere."""


@dataclass(frozen=True)
class Outcome:
    latents: torch.Tensor
    frames: np.ndarray


def run(execution: Execution, plan: str, request: GenerationRequest, image: Image.Image) -> Outcome:
    """Make the whole video under `plan`."""
    execution.use(plan)
    model = I2VGenXL(execution)
    video = model.prepare(request, image)
    video.encode()
    advance(model, video)
    return Outcome(video.latents.float().cpu(), frames(video).astype(int))


def distance(one: torch.Tensor, reference: torch.Tensor) -> float:
    """`Plan.max_error`'s measure."""
    return float((one - reference).square().mean().sqrt() / reference.square().mean().sqrt())
