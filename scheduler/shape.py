"""The shape of a job: all that its memory and its step time depend on. Jobs of one shape can share a forward pass."""

from dataclasses import dataclass
from typing import Self

from scheduler.params import HIGH, STANDARD, VideoParams

_UNGUIDED = "unguided"


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and height in pixels, frames, whether guidance doubles the batch, and the preset.

    The preset `high` has the same steps as `standard`, only more of them, and so the same shape.
    """

    width: int
    height: int
    num_frames: int
    guided: bool = True
    preset: str = STANDARD

    def __post_init__(self) -> None:
        if self.preset == HIGH:
            object.__setattr__(self, "preset", STANDARD)

    @classmethod
    def of(cls, params: VideoParams) -> Self:
        """Return the shape of a job's parameters."""
        return cls(params.width, params.height, params.num_frames, params.guided, params.preset)

    @classmethod
    def parse(cls, key: str) -> Self:
        """Read what `key` wrote; raises ValueError for anything else."""
        size, *marks = key.split(",")
        width, height, num_frames = (int(number) for number in size.split("x"))
        presets = [mark for mark in marks if mark != _UNGUIDED]
        return cls(width, height, num_frames, _UNGUIDED not in marks, presets[0] if presets else STANDARD)

    @property
    def key(self) -> str:
        """The shape as one word: `512x512x16`, `512x512x16,unguided`, `512x512x16,fast`."""
        marks = [*([] if self.guided else [_UNGUIDED]), *([] if self.preset == STANDARD else [self.preset])]
        return ",".join([f"{self.width}x{self.height}x{self.num_frames}", *marks])

    @property
    def halves(self) -> int:
        """How many samples a step runs: the conditional and the unconditional one share a batch."""
        return 2 if self.guided else 1
