"""I2VGen-XL as a worker sees it: load it once, then one `Run` per video; a `step` takes one or several runs further."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from scheduler.plans import PLANS, Plan, Technique
from workers.pipelines import denoise
from workers.pipelines.compiling import Compiler
from workers.pipelines.embeddings import EmbeddingCache
from workers.pipelines.execution import Execution
from workers.pipelines.prepare import Preprocessor
from workers.pipelines.run import Run, Snapshot, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from workers.model_folder import ModelFolder
    from workers.pipelines.request import GenerationRequest

__all__ = ["I2VGenXL", "Run", "Snapshot", "Step"]


class I2VGenXL:
    """A loaded model. One thread steps and encodes; another may prepare and resume runs meanwhile."""

    def __init__(self, execution: Execution, *, compile_dir: Path | None = None) -> None:
        """Take a loaded `execution`. With `compile_dir` the UNet is compiled where a plan holds it whole, and kept."""
        self.execution = execution
        self.preprocessor = Preprocessor.of(execution.components)
        self.embeddings = EmbeddingCache()
        self._compiler = None if compile_dir is None else Compiler(compile_dir)

    @classmethod
    def load(cls, folder: ModelFolder, *, device: torch.device, plan: str, compile_dir: Path | None = None) -> I2VGenXL:
        """Load the weights of `folder` as `plan` wants them. Raises what `components.load_components` raises."""
        execution = Execution(folder, device=device)
        execution.use(plan)
        return cls(execution, compile_dir=compile_dir)

    @property
    def compiled(self) -> bool:
        """Whether the UNet is compiled where a plan holds it whole."""
        return self._compiler is not None

    @property
    def latents_dtype(self) -> torch.dtype:
        """What latents are kept in under the current plan."""
        dtype: torch.dtype = getattr(torch, self._plan.resumes)
        return dtype

    @property
    def _plan(self) -> Plan:
        if self.execution.plan is None:
            raise RuntimeError("the model is not loaded")
        return PLANS[self.execution.plan]

    def use(self, plan: str) -> None:
        """Go over to `plan`. A run under way goes on where both plans' checkpoints are the same (`Plan.resumes`)."""
        if self._compiler is not None and plan != self.execution.plan:
            self._compiler.forget()
        self.execution.use(plan)

    def unload(self) -> None:
        """Give the weights' memory back until the next `use`."""
        if self._compiler is not None:
            self._compiler.forget()
        self.execution.unload()

    def prepare(self, request: GenerationRequest, image: Image.Image) -> Run:
        """A run of `request` from `image` (any size): all its work that the CPU can do, whatever plan is in use.

        Raises ValueError for more steps than the model has.
        """
        tools = self.preprocessor
        scheduler = denoise.make_scheduler(tools.scheduler, request)
        start = denoise.initial_latents(tools.latent_channels, request, scheduler)
        return Run(self, request, scheduler, tools.prepare(request, image), start)

    def step(self, runs: Sequence[Run]) -> Step:
        """Take each of `runs` one step further, all in one forward pass; on a GPU this only gives it the work.

        The runs have one width, height and number of frames; guidance, steps and everything else is each run's own. A
        run of the `fast` preset goes alone. Raises ValueError otherwise, IndexError for a run that is done, and
        RuntimeError for one that is not encoded. Whatever it raises, no run has moved; one of the `fast` preset must
        then `resume` or `rewind`.
        """
        _check_company(runs)
        with torch.inference_mode():
            stepped = self._stepped(runs)
            for run, latents in zip(runs, stepped, strict=True):
                run.move_to(latents)
            return Step(runs)

    def _stepped(self, runs: Sequence[Run]) -> list[torch.Tensor]:
        conditioning = runs[0].conditioning_with(runs[1:])
        latents = [run.on_device() for run in runs]
        batch = torch.cat([own.expand(run.halves, -1, -1, -1, -1) for run, own in zip(runs, latents, strict=True)])
        timesteps = torch.cat([run.timestep() for run in runs])
        with self.execution.loaded("unet"), self._forward(runs[0]) as forward:
            dtype = self.execution.components.unet.dtype
            prediction = denoise.predict(forward, batch, timesteps, conditioning, dtype)
        rows = prediction.split([run.halves for run in runs])
        return [run.advanced(own, part) for run, own, part in zip(runs, latents, rows, strict=True)]

    @contextlib.contextmanager
    def _forward(self, run: Run) -> Iterator[Callable[..., Any]]:
        unet = self.execution.components.unet
        if run.broadcast is not None:
            with run.broadcast.applied(unet, run.index):
                yield unet
        elif self._compiler is not None and self._plan.technique is Technique.WHOLE:
            yield self._compiler(unet)
        else:
            yield unet


def _check_company(runs: Sequence[Run]) -> None:
    if not runs or len(set(map(id, runs))) < len(runs):
        raise ValueError("a step takes one run or several, each once")
    if len({run.latents_shape for run in runs}) > 1:
        raise ValueError("runs of different sizes cannot share a step")
    if len(runs) > 1 and any(run.broadcast is not None for run in runs):
        raise ValueError("a run of the fast preset shares its steps with no other")
    for run in runs:
        if run.index >= run.steps:
            raise IndexError(f"all {run.steps} steps are done")
