"""What is measured: the rows of the article's table, and the same in small for a machine without a GPU."""

from dataclasses import dataclass, replace

from scheduler.params import VideoParams
from scheduler.shape import Shape


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of job: its width and height in pixels, frames and denoising steps. `name` is the full size's."""

    name: str
    side: int
    num_frames: int
    steps: int

    @property
    def shape(self) -> Shape:
        """What memory and the seconds of a step depend on."""
        return Shape(self.side, self.side, self.num_frames)

    @property
    def params(self) -> VideoParams:
        """A job of it, as other services quote their figures: guidance 9, 8 frames a second."""
        return VideoParams(self.side, self.side, self.num_frames, self.steps, 9.0, 8, seed=0)


RECIPE = Row("512p/16/50", 512, 16, 50)
CHUNKED_AIM = Row("768p/24/50", 768, 24, 50)  # where chunking must save memory
TABLE = (
    RECIPE,
    Row("768p/16/50", 768, 16, 50),
    CHUNKED_AIM,
    Row("768p/24/80", 768, 24, 80),
    Row("1024p/32/80", 1024, 32, 80),
)


def small(row: Row) -> Row:
    """Return `row` with an eighth of the width and height, a quarter of the frames and half of the steps."""
    return replace(row, side=row.side // 8, num_frames=row.num_frames // 4, steps=row.steps // 2)
