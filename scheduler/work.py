"""How much arithmetic a shape is: exact FLOPs of a denoising step, of the decode and of the encode. No torch.

The counts are those of torch's own counter on the real modules, in closed form: every coefficient below is a whole
number, and `workers.pipelines.counting` counts again what the formulas say. Multiplications and additions of matrix
products, convolutions and attention are counted, as is customary; norms and activations are not.
"""

from dataclasses import dataclass
from typing import Protocol

VAE_SCALE = 8  # pixels per latent element, each side: AutoencoderKL with four blocks


class Sized(Protocol):
    """What the work depends on: a `Shape` and a job's `VideoParams` both have it."""

    @property
    def width(self) -> int:
        """Pixels, a multiple of 8."""

    @property
    def height(self) -> int:
        """Pixels, a multiple of 8."""

    @property
    def num_frames(self) -> int:
        """Frames of the video."""

    @property
    def guided(self) -> bool:
        """Whether a step runs two samples."""


@dataclass(frozen=True, slots=True)
class UnetWork:
    """FLOPs of the UNet: sums over its levels, each of half the width and height of the one before, rounded up.

    With `n` latent elements at a level and `f` frames, a sample costs, at each level, `linear * n * f` for projections
    and convolutions, `spatial * n**2 * f` for attention within a frame and `temporal * n * f**2` for attention over
    time; and once `per_sample`, `per_frame * f` (embeddings, the prompt's keys and values) and `per_element * n` (the
    image's context, at the first level).
    """

    linear: tuple[int, ...]
    spatial: tuple[int, ...]
    temporal: tuple[int, ...]
    per_sample: int
    per_frame: int
    per_element: int

    def step_flops(self, shape: Sized) -> int:
        """Return the FLOPs of one step, all its samples together."""
        frames = shape.num_frames
        total = self.per_sample + self.per_frame * frames + self.per_element * frame_elements(shape)
        for level, (linear, spatial, temporal) in enumerate(zip(self.linear, self.spatial, self.temporal, strict=True)):
            elements = frame_elements(shape, level)
            total += elements * frames * (linear + spatial * elements + temporal * frames)
        return halves(shape) * total


@dataclass(frozen=True, slots=True)
class VaeWork:
    """FLOPs of the VAE, per frame of `n` latent elements: `linear * n + attention * n**2`."""

    decode_linear: int
    encode_linear: int
    attention: int

    def decode_flops(self, shape: Sized) -> int:
        """Return the FLOPs of decoding all frames."""
        return shape.num_frames * self._frame(self.decode_linear, shape)

    def encode_flops(self, shape: Sized) -> int:
        """Return the FLOPs of encoding the image."""
        return self._frame(self.encode_linear, shape)

    def _frame(self, linear: int, shape: Sized) -> int:
        elements = frame_elements(shape)
        return elements * (linear + self.attention * elements)


def frame_elements(shape: Sized, level: int = 0) -> int:
    """Return the latent elements of one frame: one per 8x8 pixels, at each further level one per 2x2 of those."""
    return _halved(shape.width // VAE_SCALE, level) * _halved(shape.height // VAE_SCALE, level)


def step_elements(shape: Sized) -> int:
    """Return the latent elements that go through a step: of all frames and samples."""
    return frame_elements(shape) * shape.num_frames * halves(shape)


def halves(shape: Sized) -> int:
    """Return how many samples a step runs: two with guidance, one without."""
    return 2 if shape.guided else 1


def _halved(length: int, times: int) -> int:
    return -(-length >> times)


I2VGEN_XL_UNET = UnetWork(
    linear=(102_052_864, 355_955_200, 1_298_867_200, 964_121_600),
    spatial=(6_400, 12_800, 25_600, 5_120),
    temporal=(16_928, 25_600, 51_200, 10_240),
    per_sample=106_233_856,
    per_frame=7_463_731_200,
    per_element=2_304,
)
I2VGEN_XL_VAE = VaeWork(decode_linear=605_507_616, encode_linear=264_233_088, attention=2_048)

TINY_UNET = UnetWork(
    linear=(62_240, 150_848, 158_912, 123_456),
    spatial=(96, 192, 192, 64),
    temporal=(288, 384, 384, 128),
    per_sample=10_627_072,
    per_frame=1_274_880,
    per_element=2_304,
)
TINY_VAE = VaeWork(decode_linear=521_824, encode_linear=254_080, attention=32)
