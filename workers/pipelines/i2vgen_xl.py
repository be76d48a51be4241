"""I2VGen-XL as a runner sees it: load it once, then one `Run` per video, driven step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.pipelines import components, decode, denoise, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch
    from PIL import Image

    from workers.model_folder import ModelFolder
    from workers.pipelines.request import GenerationRequest


class I2VGenXL:
    """A loaded model. One at a time runs on it; several runs may be prepared."""

    def __init__(self, folder: ModelFolder, parts: components.Components) -> None:
        self.folder = folder
        self.components = parts

    @classmethod
    def load(cls, folder: ModelFolder, *, device: torch.device, dtype: torch.dtype) -> I2VGenXL:
        """Load the weights of `folder`. Raises what `components.load_components` raises."""
        return cls(folder, components.load_components(folder, device=device, dtype=dtype))

    def prepare(self, request: GenerationRequest, image: Image.Image) -> Run:
        """A run of `request` from `image` (any size). Raises ValueError for more steps than the model has."""
        return Run(self.components, request, image)


class Run:
    """One video: `encode()`, then `step(0)` to `step(steps - 1)`, then `decode()`.

    Nothing happens between the calls, so the caller may stop, save `latents`, or leave there. To go on later:
    prepare the same request again, `encode()`, `resume(latents)`, and call the steps that are left.
    """

    def __init__(self, parts: components.Components, request: GenerationRequest, image: Image.Image) -> None:
        self.request = request
        self.steps = request.num_inference_steps
        self._components = parts
        self._image = image
        self._scheduler = denoise.make_scheduler(parts, request)
        self._conditioning: encode.Conditioning | None = None
        self.latents = denoise.initial_latents(parts, request, self._scheduler)

    def encode(self) -> None:
        """Encode prompt and image."""
        self._conditioning = encode.encode(self._components, self.request, self._image)

    def resume(self, latents: torch.Tensor) -> None:
        """Take up `latents` saved after some step. Raises ValueError if shape or dtype are not this run's."""
        have = (tuple(self.latents.shape), self.latents.dtype)
        given = (tuple(latents.shape), latents.dtype)
        if given != have:
            raise ValueError(f"saved latents are {given[1]} of shape {given[0]}, this run has {have[1]} of {have[0]}")
        self.latents = latents.to(self._components.device)

    def step(self, index: int) -> None:
        """Denoise step `index`, from and into `latents`."""
        if self._conditioning is None:
            raise RuntimeError("encode() comes before step()")
        self.latents = denoise.denoise_step(self._components, self._conditioning, self._scheduler, self.latents, index)

    def decode(self, *, frames_per_chunk: int = 1) -> Iterator[np.ndarray]:
        """The frames: uint8, (height, width, 3). Raises decode.NonFiniteFrame."""
        self._conditioning = None  # Not needed any more, and the decoder wants the memory.
        return decode.decode(self._components, self.latents, frames_per_chunk=frames_per_chunk)
