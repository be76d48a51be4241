"""Who took part: GPUs of several kinds, models, tenants, and what they ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scheduler import catalog
from scheduler.footprint import Footprint
from scheduler.params import VideoParams
from scheduler.records import ServedModel

GIB = 2**30
HEADROOM_BYTES = GIB
GPUS_OF_HOST = 8

MODELS = (
    ServedModel("ali-vilab/i2vgen-xl", catalog.I2VGEN_XL, weights_bytes=4_970_000_000, fingerprint="a" * 64),
    ServedModel("studio/i2vgen-xl-drawn", catalog.I2VGEN_XL, weights_bytes=4_970_000_000, fingerprint="b" * 64),
    ServedModel("studio/i2vgen-xl-faces", catalog.I2VGEN_XL, weights_bytes=4_970_000_000, fingerprint="c" * 64),
)
TENANTS = ("archive", "atelier", "campus", "cinema", "editors", "labs", "press", "studio")
PROMPTS = (
    "A sailing boat leaves the harbour at dawn",
    "Clouds gather over a mountain lake",
    "The lights of a city come on, one after another",
    "A cat stretches on a window sill in the sun",
    "Snow falls on a quiet railway station",
)
SHAPES = tuple(
    VideoParams(width, height, num_frames, steps, 9.0, 16, seed=7, preset=preset)
    for width, height, num_frames, steps, preset in (
        (512, 512, 16, 50, "standard"),
        (768, 768, 16, 50, "standard"),
        (768, 768, 24, 80, "standard"),
        (768, 768, 24, 80, "fast"),
        (1024, 576, 32, 80, "standard"),
        (1280, 704, 32, 80, "standard"),
        (1024, 1024, 32, 80, "standard"),
    )
)


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of GPU, and the plan that its workers run first."""

    name: str
    total_bytes: int
    plan: str
    watts: float


CARDS = (
    Card("NVIDIA L40S", 45 * GIB, "fp16-chunked", 310.0),
    Card("NVIDIA A10", 23 * GIB, "fp16-chunked", 140.0),
    Card("NVIDIA GeForce RTX 3090", 24 * GIB, "fp16-chunked", 330.0),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU of the fleet. On some two jobs run at once, each in a lane of its own."""

    number: int
    card: Card

    @property
    def id(self) -> str:
        """Its id."""
        return f"GPU-{self.number:04d}"

    @property
    def host(self) -> str:
        """The host that it is in."""
        return f"host-{self.number // GPUS_OF_HOST:02d}"

    @property
    def lanes(self) -> int:
        """How many jobs run on it at once."""
        return 2 if self.card is CARDS[0] and self.number % 2 == 0 else 1


def machines(count: int) -> Sequence[Machine]:
    """Return a fleet of so many GPUs."""
    return [Machine(number, CARDS[number % len(CARDS)]) for number in range(count)]


@cache
def pace(card: Card) -> float:
    """Return how many jobs of all shapes alike such a GPU runs in a second."""
    return len(SHAPES) / sum(need(card, MODELS[0], shape).seconds for shape in SHAPES)


@cache
def need(card: Card, model: ServedModel, params: VideoParams) -> Footprint:
    """Return what a job needs on such a GPU, by the data sheet."""
    sheet = catalog.architecture(model.architecture)
    return sheet.footprint(params, plan=card.plan, kind=card.name, weights_bytes=model.weights_bytes)
