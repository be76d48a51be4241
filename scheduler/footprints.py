"""Footprints as this installation has come to know them: predictions that learn from what runs needed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from scheduler import catalog
from scheduler.calibration import Calibration
from scheduler.footprint import Footprint
from scheduler.learning import Learned, Observation
from scheduler.params import VideoParams
from scheduler.records import ServedModel
from scheduler.remembered import Remembered
from scheduler.shape import Shape
from scheduler.store import observations
from scheduler.store.database import Database
from scheduler.store.observations import Mark

_LEAST_SECONDS = 2.0  # how long a snapshot is used
_REMEMBERED = 4096  # predictions a snapshot keeps


class Predictor(Protocol):
    """An immutable snapshot of what is known: cheap, cached, no I/O.

    `kind` is the GPU's kind, and `served` a model whose architecture the catalog knows. Every method raises KeyError
    for a plan that this version does not know.
    """

    def predict(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> Footprint:
        """Predict what a job needs: bytes that it will hardly exceed, and the seconds it should take."""

    def step_seconds(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> float:
        """Predict the seconds of one denoising step."""

    def explain(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> str:
        """Say what the prediction rests on: `measured 12 times here`, `scaled from 512x512x16`, `data sheet`."""


class LearnedPredictor:
    """Predicts from the data sheet, corrected by what was seen. Thread-safe."""

    def __init__(self, seen: Iterable[Observation]) -> None:
        self._seen: dict[tuple[str, str], list[Observation]] = defaultdict(list)
        for one in seen:
            self._seen[one.gpu_kind, one.model].append(one)
        # Of this snapshot alone, so that they go with it.
        self._learned = lru_cache(_REMEMBERED)(self._learn)
        self._need = lru_cache(_REMEMBERED)(self._compute)

    def predict(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> Footprint:
        """Do what `Predictor.predict` says."""
        resident, working, step, fixed = self._need(served, kind, plan, Shape.of(params))
        return Footprint(plan, resident, working, fixed + params.num_inference_steps * step)

    def step_seconds(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> float:
        """Do what `Predictor.step_seconds` says."""
        return self._need(served, kind, plan, Shape.of(params))[2]

    def explain(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> str:
        """Do what `Predictor.explain` says."""
        return self._learned(served, kind).basis(plan, Shape.of(params))

    def _compute(self, served: ServedModel, kind: str, plan: str, shape: Shape) -> tuple[int, int, float, float]:
        """Resident and working bytes, the seconds of a step and those beside the steps."""
        learned = self._learned(served, kind)
        return (
            learned.resident_bytes(plan),
            learned.working_bytes(plan, shape),
            learned.step_seconds(plan, shape),
            learned.fixed_seconds(plan, shape),
        )

    def _learn(self, served: ServedModel, kind: str) -> Learned:
        sheet = catalog.architecture(served.architecture).data_sheet(kind, served.weights_bytes)
        return Learned(sheet, self._seen.get((kind, served.id), ()))


class PriorPredictor(LearnedPredictor):
    """Predicts from the data sheet alone: for where nothing was ever measured."""

    def __init__(self) -> None:
        super().__init__(())


class Footprints:
    """The observations in the database, and the predictor they make. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: Remembered[None, tuple[Mark, Predictor]] = Remembered(_LEAST_SECONDS)
        self._latest: tuple[Mark, Predictor] | None = None

    def current(self) -> Predictor:
        """Return the predictor of now; what it knows is read anew at most every two seconds, on another connection.

        Raises `StoreError` while the database cannot be used.
        """
        return self._remembered.get(None, self._read)[1]

    def observe(self, seen: Sequence[Observation]) -> None:
        """Record what runs needed, durably; the oldest of what is known of the same shapes goes."""
        with self._database.write() as conn:
            observations.add(conn, seen, self._database.now(conn))

    def import_calibration(self, calibration: Calibration | Path) -> int:
        """Record what a calibration measured and is not known yet; returns how much that was.

        So a file may be imported at every start. Raises `CalibrationError` for one that cannot be read.
        """
        record = calibration if isinstance(calibration, Calibration) else Calibration.read(calibration)
        with self._database.write() as conn:
            return observations.add_new(conn, record.observations(), self._database.now(conn))

    def _read(self) -> tuple[Mark, Predictor]:
        """The predictor, with the mark it was made at: as long as that stays, so does the predictor with its cache."""
        with self._database.read() as conn:
            now = self._database.now(conn)
            mark = observations.mark(conn, now)
            if self._latest is None or self._latest[0] != mark:
                self._latest = mark, LearnedPredictor(observations.latest(conn, now))
        return self._latest
