"""Short ways to drive runs of a loaded model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL, Run


def advance(model: I2VGenXL, run: Run, to: int | None = None) -> None:
    """Make the steps of `run` alone up to index `to`, or all that are left; each must be finite."""
    while run.index < (run.steps if to is None else to):
        assert model.step([run]).wait() == (True,)


def frames(run: Run) -> np.ndarray:
    """Decode `run`: uint8 (frames, height, width, 3)."""
    return np.stack(list(run.decode()))
