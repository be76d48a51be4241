"""`torch.compile` of the UNet, off unless asked for: the first step of each shape takes minutes, later ones less time.

What was compiled is kept in a folder, so that the next process only loads it. Compiled kernels round differently
from those of the library: a checkpoint of one is not resumed with the other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo import config as dynamo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BACKEND = "inductor"
# torch gives up on a function after 8 versions of it; each shape, and each number of runs in a pass, is one.
_MOST_SHAPES = 64


class Compiler:
    """Compiles a UNet once for each shape it sees, for as long as it is the same UNet."""

    def __init__(self, cache_dir: Path, *, backend: str | None = None) -> None:
        """`cache_dir` is made if needed. To be called before anything else of this process compiles."""
        cache_dir.mkdir(parents=True, exist_ok=True)
        # Read when the compiler starts; Triton's cache lies in the first unless told otherwise.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_dir)
        os.environ["TRITON_CACHE_DIR"] = str(cache_dir / "triton")
        self._backend = backend or BACKEND
        self._unet: Any = None
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, unet: Any) -> Callable[..., Any]:
        """`unet` as a compiled function of the same arguments. Nothing is compiled before it is called."""
        if self._compiled is None or self._unet is not unet:
            dynamo.recompile_limit = _MOST_SHAPES
            self._unet, self._compiled = unet, torch.compile(unet, backend=self._backend, dynamic=False)
        return self._compiled

    def forget(self) -> None:
        """Let go of the UNet, so that its memory can be given back."""
        self._unet = self._compiled = None
