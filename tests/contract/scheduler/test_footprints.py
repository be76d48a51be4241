"""Footprints in the database: what is observed is durable, bounded, and changes predictions."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select

from scheduler import catalog
from scheduler.calibration import Calibration, CalibrationError, Measurement
from scheduler.footprints import Footprints, Predictor, PriorPredictor
from scheduler.learning import Observation
from scheduler.params import VideoParams
from scheduler.records import ServedModel
from scheduler.states import Source
from scheduler.store import observations
from scheduler.store import schema as s
from scheduler.store.database import Database
from tests.support.databases import Clock

GIB = 2**30
KIND = "NVIDIA H100 80GB HBM3"
MODEL = ServedModel("m", catalog.I2VGEN_XL, 4_970_000_000, "f")
PARAMS = VideoParams(512, 512, 16, 50, 9.0, 16, seed=0)


@pytest.fixture
def database(database_url: str, clock: Clock) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def read_anew(database: Database) -> Callable[[], Predictor]:
    """Return what another process that has just started would predict with."""
    return lambda: Footprints(database).current()


@pytest.fixture
def footprints(database: Database) -> Footprints:
    return Footprints(database)


def seen(size: int | None = 4 * GIB, source: Source = Source.ATTEMPT, shape: str = "512x512x16") -> Observation:
    seconds = None if source is Source.OUT_OF_MEMORY else 0.2
    return Observation(source, KIND, MODEL.id, "fp16", shape, size, seconds, seconds and 3.0)


def calibration(*sizes: int) -> Calibration:
    measured = (Measurement(plan="fp16", shape="512x512x16", working_peak_bytes=size) for size in sizes)
    return Calibration(gpu_kind=KIND, model=MODEL.id, fingerprint="f", measured_at=0.0, measurements=tuple(measured))


def working(predictor: Predictor) -> int:
    return predictor.predict(MODEL, kind=KIND, plan="fp16", params=PARAMS).working_bytes


def basis(predictor: Predictor, kind: str = KIND) -> str:
    return predictor.explain(MODEL, kind=kind, plan="fp16", params=PARAMS)


def rows(database: Database) -> int:
    with database.read() as conn:
        return conn.execute(select(func.count()).select_from(s.observations)).scalar_one()


def test_nothing_observed_is_the_data_sheet(footprints: Footprints) -> None:
    prior, current = (
        predictor.predict(MODEL, kind=KIND, plan="fp16", params=PARAMS)
        for predictor in (PriorPredictor(), footprints.current())
    )

    architecture = catalog.architecture(MODEL.architecture)
    assert prior == current == architecture.footprint(PARAMS, plan="fp16", kind=KIND, weights_bytes=MODEL.weights_bytes)
    assert basis(footprints.current()) == "data sheet"


def test_what_one_process_observes_another_predicts_with(
    footprints: Footprints, read_anew: Callable[[], Predictor]
) -> None:
    footprints.observe([seen()] * 3)

    predictor = read_anew()
    need = predictor.predict(MODEL, kind=KIND, plan="fp16", params=PARAMS)
    assert 4 * GIB < need.working_bytes < 5 * GIB
    assert need.seconds == pytest.approx(3.0 + 50 * 0.2)
    assert predictor.step_seconds(MODEL, kind=KIND, plan="fp16", params=PARAMS) == 0.2
    assert basis(predictor) == "measured 3 times here"
    assert basis(predictor, kind="NVIDIA L4") == "data sheet", "another kind of GPU is another matter"


def test_a_snapshot_does_not_change_and_is_used_for_two_seconds(footprints: Footprints) -> None:
    first = footprints.current()
    before = working(first)

    footprints.observe([seen()])

    assert footprints.current() is first
    assert working(first) == before


def test_what_has_not_changed_is_not_made_anew(footprints: Footprints) -> None:
    footprints.observe([seen()])

    assert footprints._read() == footprints._read()


def test_the_last_32_of_each_shape_are_kept(footprints: Footprints, database: Database) -> None:
    footprints.observe([seen(shape="768x768x24")])
    for size in range(40):
        footprints.observe([seen(GIB + size)])

    with database.read() as conn:
        kept = observations.latest(conn, 0.0)
    assert [one.working_peak_bytes for one in kept] == [4 * GIB, *range(GIB + 8, GIB + 40)]


def test_calibrations_are_kept_beside_them(footprints: Footprints, database: Database) -> None:
    assert footprints.import_calibration(calibration(GIB, 2 * GIB)) == 2
    footprints.observe([seen()] * 40)

    assert rows(database) == 34


def test_a_calibration_is_imported_once_and_a_new_one_beside_it(
    footprints: Footprints, read_anew: Callable[[], Predictor], tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    calibration(GIB).write(path)

    assert [footprints.import_calibration(path) for _ in range(2)] == [1, 0]
    assert footprints.import_calibration(calibration(GIB, 2 * GIB)) == 1
    assert basis(read_anew()) == "measured 2 times here"


def test_a_file_that_is_no_calibration_changes_nothing(
    footprints: Footprints, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    path.write_text("{}")

    with pytest.raises(CalibrationError):
        footprints.import_calibration(path)
    assert rows(database) == 0


def test_a_failure_counts_until_a_later_run_overrules_it(
    footprints: Footprints, read_anew: Callable[[], Predictor]
) -> None:
    footprints.observe([seen(), seen(40 * GIB, Source.OUT_OF_MEMORY)])
    assert working(read_anew()) > 40 * GIB

    footprints.observe([seen()])
    assert working(read_anew()) < 5 * GIB


def test_a_failure_that_nothing_can_overrule_is_forgotten(
    footprints: Footprints, read_anew: Callable[[], Predictor], clock: Clock
) -> None:
    footprints.observe([seen(400 * GIB, Source.OUT_OF_MEMORY)])
    assert working(read_anew()) > 400 * GIB
    shut_out = footprints._read()

    clock.advance(6 * 3600 + 1)

    assert working(read_anew()) == working(PriorPredictor())
    assert footprints._read() != shut_out, "a predictor made before learns of it too"


def test_many_threads_observe_and_predict_at_once(footprints: Footprints, database: Database) -> None:
    def run(number: int) -> int:
        footprints.observe([seen(GIB + number), seen(GIB + number, shape="768x768x24")])
        return working(footprints.current())

    with ThreadPoolExecutor(8) as pool:
        assert all(size > 0 for size in pool.map(run, range(48)))
    assert 64 <= rows(database) < 80, (
        "two that add at once on PostgreSQL do not see each other's: the next one tidies up"
    )


def test_observing_nothing_writes_nothing(footprints: Footprints, database: Database) -> None:
    footprints.observe([])

    assert rows(database) == 0
