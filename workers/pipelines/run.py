"""One video under way: what it was asked, how far it is, and what it takes to go back or to go on elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from workers.pipelines import decode, denoise, encode, runtime
from workers.pipelines.broadcast import Broadcast, is_fresh

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from diffusers import DDIMScheduler

    from scheduler.shape import Shape
    from workers.pipelines.encode import Conditioning
    from workers.pipelines.i2vgen_xl import I2VGenXL
    from workers.pipelines.prepare import Inputs
    from workers.pipelines.request import GenerationRequest


@dataclass(frozen=True)
class Snapshot:
    """A run after `step` steps: `latents` on the CPU, (1, channels, frames, height / 8, width / 8).

    They are in the plan's `resumes`; only at step 0, where nothing is computed yet, always float32.
    """

    latents: torch.Tensor
    step: int


class Run:
    """One video: `encode()`, `steps` times `I2VGenXL.step`, then `decode()`.

    Nothing happens between the calls, so the caller may stop, save a `snapshot`, or leave there. To go on later:
    prepare the same request again, `encode()`, `resume(snapshot)`, and make the steps that are left.

    `index` is the next step, `latents` what it starts from; on a GPU they may still be under way. The methods from
    `on_device` on are for `I2VGenXL.step` and `Step`.
    """

    def __init__(
        self,
        model: I2VGenXL,
        request: GenerationRequest,
        scheduler: DDIMScheduler,
        inputs: Inputs,
        start: torch.Tensor,
    ) -> None:
        self.request = request
        self.shape: Shape = request.shape
        self.steps = request.num_inference_steps
        self.halves = inputs.halves
        self.index = 0
        self.broadcast = Broadcast(self.steps) if request.fast else None
        self._device = device = model.preprocessor.device
        self._model = model
        self._scheduler = scheduler
        self._inputs = inputs
        self._timesteps = runtime.pinned(scheduler.timesteps, device)
        self._start = runtime.pinned(start, device)
        self.conditioning: Conditioning | None = None
        self._joined: _Joined | None = None
        self.latents = self._start
        self._good = (self.latents, 0)
        self.lap = 0

    @property
    def latents_shape(self) -> tuple[int, ...]:
        """(1, channels, frames, height / 8, width / 8)."""
        return tuple(self._start.shape)

    def encode(self) -> None:
        """Encode prompt and image; again, if the encoders have changed since."""
        model, dtype = self._model, self._model.latents_dtype
        self.conditioning = encode.encode(model.execution, self._inputs, model.embeddings, dtype)
        self._joined = None
        self._timesteps = runtime.upload(self._timesteps, self._device)

    def is_sound(self) -> bool:
        """Whether all that `encode` gave is finite; waits for it."""
        return self.conditioning is not None and self.conditioning.is_finite()

    def is_resumable(self, step: int) -> bool:
        """Whether a run that goes on after `step` steps makes the same video as one that never stopped."""
        return 0 <= step <= self.steps and (self.broadcast is None or is_fresh(step, self.steps))

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from `snapshot`, whatever was done before.

        Raises ValueError if its shape or step are not this run's.
        """
        given = tuple(snapshot.latents.shape)
        if given != self.latents_shape:
            raise ValueError(f"saved latents have shape {given}, those of this run {self.latents_shape}")
        if not self.is_resumable(snapshot.step):
            raise ValueError(f"a run of {self.steps} steps cannot go on after step {snapshot.step}")
        self._go_to(runtime.pinned(snapshot.latents, self._device), snapshot.step)

    def rewind(self, snapshot: Snapshot | None = None) -> None:
        """Go back to `snapshot`, or to the start: steps under way no longer count. Raises as `resume` does."""
        if snapshot is None:
            self._go_to(self._start, 0)
        else:
            self.resume(snapshot)

    def snapshot(self) -> Snapshot:
        """The state after the last step that a `Step.wait` found finite and that can be resumed, or the start.

        Waits for the copy only: on a GPU the steps given meanwhile go on.
        """
        latents, step = self._good
        return Snapshot(runtime.download(latents), step)

    def decode(self, *, vae_dtype: torch.dtype | None = None, accept_black: bool = False) -> Iterator[np.ndarray]:
        """The frames: uint8, (height, width, 3). Raises what `decode.decode` raises.

        `vae_dtype` is what the VAE computes in, if not what the plan says. With `accept_black` a frame may be black.
        """
        # Not needed any more, and the decoder wants the memory.
        self.conditioning = self._joined = None
        if self.broadcast is not None:
            self.broadcast.clear()
        return decode.decode(self._model.execution, self.on_device(), dtype=vae_dtype, accept_black=accept_black)

    def on_device(self) -> torch.Tensor:
        """The latents, moved to the device if they are not there.

        Raises RuntimeError where the plan has come to be one that cannot go on from them.
        """
        dtype = self._model.latents_dtype
        if self.index > 0 and self.latents.dtype != dtype:
            raise RuntimeError(f"the run has latents in {self.latents.dtype}, and the plan wants {dtype}")
        self.latents = runtime.upload(self.latents, self._device, dtype)
        return self.latents

    def timestep(self) -> torch.Tensor:
        """The next step's timestep for each row of the run: (halves,)."""
        return self._timesteps[self.index : self.index + 1].expand(self.halves)

    def conditioning_with(self, others: Sequence[Run]) -> Conditioning:
        """This run's conditioning joined with that of `others`, kept while they stay the same."""
        own = [run.conditioning for run in (self, *others)]
        parts = tuple(part for part in own if part is not None)
        if len(parts) < len(own):
            raise RuntimeError("encode() comes before step()")
        if not others:
            self._joined = None
            return parts[0]
        if self._joined is None or not self._joined.is_of(parts):
            self._joined = _Joined(parts, encode.join(parts))
        return self._joined.whole

    def advanced(self, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """The latents after the next step, which the UNet's `prediction` for this run's rows is of."""
        return denoise.advance(self._scheduler, prediction, latents, self.index, self.request.guidance_scale)

    def move_to(self, latents: torch.Tensor) -> None:
        """Take the next step as made, with what `advanced` gave."""
        self.latents = latents
        self.index += 1

    def confirm(self, latents: torch.Tensor, step: int, lap: int) -> None:
        """Take `latents` after `step` steps as good, unless the run has gone back since, to another `lap`."""
        if lap == self.lap and step > self._good[1] and self.is_resumable(step):
            self._good = (latents, step)

    def _go_to(self, latents: torch.Tensor, step: int) -> None:
        if self.broadcast is not None:
            self.broadcast.clear()
        self.latents, self.index = latents, step
        self._good = (latents, step)
        self.lap += 1


@dataclass(frozen=True)
class _Joined:
    """The conditioning of several runs, and whose it is; it knows no run, and so ends with the first of them."""

    parts: tuple[Conditioning, ...]
    whole: Conditioning

    def is_of(self, parts: tuple[Conditioning, ...]) -> bool:
        return len(parts) == len(self.parts) and all(a is b for a, b in zip(parts, self.parts, strict=True))


class Step:
    """One step of some runs, perhaps still under way."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._made = [(run, run.latents, run.index, run.lap) for run in runs]
        flags = torch.stack([run.latents.isfinite().all() for run in runs])
        self._flags = runtime.queue_download(flags)
        self._done: torch.cuda.Event | None = None
        self._finite: tuple[bool, ...] | None = None
        if flags.device.type == "cuda":
            self._done = torch.cuda.Event(blocking=True)  # sleeps while it waits: the CPU has other work
            self._done.record(torch.cuda.current_stream(flags.device))

    def wait(self) -> tuple[bool, ...]:
        """For each run, in order: are its latents finite. Waits for this step, not for what was given after it."""
        if self._finite is None:
            if self._done is not None:
                self._done.synchronize()
            self._finite = tuple(self._flags.tolist())
            for finite, (run, latents, step, lap) in zip(self._finite, self._made, strict=True):
                if finite:
                    run.confirm(latents, step, lap)
            self._made = []
        return self._finite
