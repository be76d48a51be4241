"""An attempt's prediction beside what was measured, and where its seconds went: the geometry of the bars."""

from dataclasses import dataclass

from scheduler.records import Attempt, Measured

# In the order of a run. What a GPU idled before it is not the attempt's.
_STAGES = ("loading", "waiting", "encoding", "denoising", "decoding", "muxing")
_LEAST_SECONDS = 0.05  # less would be told as none


@dataclass(frozen=True, slots=True)
class Pair:
    """A quantity as predicted and as measured, in bytes or seconds; the widths are percent of the larger of the two."""

    name: str
    predicted: float
    measured: float
    is_bytes: bool
    predicted_width: float
    measured_width: float

    @property
    def change(self) -> float:
        """How much more was measured than predicted, as a share of the prediction."""
        return self.measured / self.predicted - 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """A stage of a run: its seconds, and its piece of the bar, in percent."""

    stage: str
    seconds: float
    start: float
    width: float


def pairs(attempt: Attempt, used: Measured) -> list[Pair]:
    """Return run time and peak memory of an attempt, as far as they were measured."""
    made = [_pair("Run time", attempt.predicted_seconds, used.run_seconds, is_bytes=False)]
    if used.vram_peak_bytes is not None:
        made.append(_pair("Peak memory", attempt.predicted_vram_bytes, used.vram_peak_bytes, is_bytes=True))
    return made


def parts(used: Measured) -> list[Part]:
    """Return the stages of a run, those that took any time to speak of."""
    taken = [(stage, used.stage_seconds.get(stage, 0.0)) for stage in _STAGES]
    taken = [(stage, seconds) for stage, seconds in taken if seconds >= _LEAST_SECONDS]
    whole = sum(seconds for _, seconds in taken)
    made, start = [], 0.0
    for stage, seconds in taken:
        width = 100 * seconds / whole
        made.append(Part(stage, seconds, round(start, 2), round(width, 2)))
        start += width
    return made


def _pair(name: str, predicted: float, measured: float, *, is_bytes: bool) -> Pair:
    most = max(predicted, measured)
    widths = [round(100 * value / most, 2) if most > 0 else 0.0 for value in (predicted, measured)]
    return Pair(name, predicted, measured, is_bytes, *widths)
