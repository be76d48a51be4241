"""What runs have taken on this installation, to be shown beside what is predicted."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select, text

from scheduler.params import VideoParams
from scheduler.remembered import Remembered
from scheduler.shape import Shape
from scheduler.states import Outcome
from scheduler.store import schema as s
from scheduler.store.database import Database

_LAST = 1000  # successes of a model and plan that are looked at, the newest
_LEAST_SECONDS = 5.0  # how long what they gave is used


@dataclass(frozen=True, slots=True)
class Measure:
    """What `jobs` runs of one kind took: the median of their seconds and the largest peak of the process, if known."""

    jobs: int
    seconds_p50: float
    vram_peak_bytes: int | None


class _Kind(NamedTuple):
    gpu_kind: str
    shape: str
    steps: int


class Measures:
    """The last successes of each model and plan. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: Remembered[tuple[str, str], Mapping[_Kind, Measure]] = Remembered(_LEAST_SECONDS)

    def of(self, model: str, *, plan: str, gpu_kind: str, params: VideoParams) -> Measure | None:
        """Return what the last such jobs took that ran alone and without a break; None if there were none.

        It may be some seconds old.
        """
        measures = self._remembered.get((model, plan), lambda: self._read(model, plan))
        return measures.get(_Kind(gpu_kind, Shape.of(params).key, params.num_inference_steps))

    def _read(self, model: str, plan: str) -> Mapping[_Kind, Measure]:
        done = s.attempts.c
        query = (
            select(done.gpu_kind, done.shape, done.steps, done.run_seconds, done.vram_peak_bytes)
            .add_columns(done.resumed_from_step, done.sharing)
            .where(done.outcome == text(f"'{Outcome.SUCCEEDED.value}'"), done.model == model, done.plan == plan)
            .order_by(done.ended_at.desc())
            .limit(_LAST)
        )
        runs: dict[_Kind, list[tuple[float, int | None]]] = defaultdict(list)
        with self._database.read() as conn:
            for kind, shape, steps, seconds, peak_bytes, resumed_from, sharing in conn.execute(query):
                alone_and_whole = resumed_from is None and (sharing or 1) == 1
                if alone_and_whole and steps is not None and seconds is not None:
                    runs[_Kind(kind, shape, steps)].append((seconds, peak_bytes))
        return {kind: _measure(*zip(*found, strict=True)) for kind, found in runs.items()}


def _measure(seconds: tuple[float, ...], peaks: tuple[int | None, ...]) -> Measure:
    known = [peak for peak in peaks if peak is not None]
    return Measure(len(seconds), statistics.median(seconds), max(known, default=None))
