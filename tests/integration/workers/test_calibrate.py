"""`reelq-worker calibrate` on the CPU with the tiny model: what it measures, writes, imports and refuses."""

import fcntl
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scheduler import catalog
from scheduler.calibration import Calibration
from scheduler.service import Scheduler
from scheduler.shape import Shape
from scheduler.states import Source
from scheduler.store import observations
from tests.support.worker_host import TINY, WorkerHost
from workers import calibrate, cli
from workers.calibration import Calibrator, Case, Figures, Finding, Grid, Outcome, cases, shapes
from workers.devices import discover
from workers.meter import CpuMeter
from workers.models import choose, tiny_folder
from workers.pipelines.decode import BlackFrame
from workers.pipelines.i2vgen_xl import I2VGenXL, Run, Step
from workers.settings import WorkerSettings

SMALL = [Shape(64, 64, 2), Shape(64, 64, 3), Shape(72, 64, 3)]
ARCHITECTURE = catalog.architecture(catalog.I2VGEN_XL_TINY)
SHEET = ARCHITECTURE.data_sheet("cpu", catalog.TINY_WEIGHTS_BYTES)


@pytest.fixture
def settings(tmp_path: Path, models_dir: Path) -> Callable[..., WorkerSettings]:
    def make(**changes: Any) -> WorkerSettings:
        given: dict[str, Any] = {
            "data_dir": tmp_path / "data",
            "models_dir": models_dir,
            "model": "tiny",
            "device": "cpu",
            "cpu_memory_bytes": 8 * 2**30,
            "cpu_threads": 1,
            "plans": "fp32",
        }
        return WorkerSettings(**(given | changes))

    return make


@pytest.mark.usefixtures("small_grid")
def test_a_file_from_another_machine_is_imported_when_a_supervisor_starts(
    settings: Callable[..., WorkerSettings], tmp_path: Path, models_dir: Path
) -> None:
    file = tmp_path / "calibration.json"
    calibrate.calibrate(settings(), grid=Grid.QUICK, out=file, imports=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    host = WorkerHost(elsewhere, models_dir, calibration=file)
    try:
        for _ in range(2):  # each start imports it, and what is known already is not imported again
            supervisor = host.start()
            assert supervisor.ready.wait(60), host.log()
            supervisor.terminate()
            assert supervisor.finish(30.0) == 0
        with host.scheduler.database.read() as conn:
            seen = observations.latest(conn, host.scheduler.database.now(conn))
    finally:
        host.close()
    assert len(seen) == len(Calibration.read(file).measurements)
    assert {each.source for each in seen} == {Source.CALIBRATION}


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small shapes instead of four or twelve; and what a worker's process sets stays within the test."""
    monkeypatch.setattr(calibrate, "shapes", lambda *_: SMALL[:2])
    monkeypatch.setenv("OMP_WAIT_POLICY", os.environ.get("OMP_WAIT_POLICY", "PASSIVE"))


class Stumbling(I2VGenXL):
    """The model, failing at shapes of `at` latent frames or more with `error`."""

    at = 3
    error: Exception = torch.OutOfMemoryError("injected")

    def step(self, runs: Sequence[Run]) -> Step:
        if runs[0].request.num_frames >= self.at:
            raise self.error
        return super().step(runs)


def _run(
    models_dir: Path, kind: type[I2VGenXL], todo: Sequence[Case], *, room_bytes: int | None = None
) -> list[Finding]:
    folder = tiny_folder(models_dir)
    calibrator = Calibrator(
        lambda plan: kind.load(folder, device=torch.device("cpu"), plan=plan), CpuMeter(), room_bytes=room_bytes
    )
    return list(calibrator.run(todo))


@pytest.mark.usefixtures("small_grid")
def test_what_is_measured_is_written_and_predictions_rest_on_it(
    settings: Callable[..., WorkerSettings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = settings(plans="fp32,fp32-chunked"), tmp_path / "calibration.json"
    calibrate.calibrate(given, grid=Grid.QUICK, out=out, imports=True)

    record = Calibration.read(out)
    assert (record.gpu_kind, record.model) == ("cpu", catalog.TINY_MODEL_ID)
    assert [(each.plan, each.shape) for each in record.measurements] == [
        (plan, shape.key) for plan in ("fp32", "fp32-chunked") for shape in SMALL[:2]
    ]
    for each in record.measurements:
        assert each.working_peak_bytes
        assert each.step_seconds
        assert each.fixed_seconds
    shown = capsys.readouterr()
    assert "64x64x3" in shown.out
    assert "imported 4 measurements" in shown.err

    with Scheduler.open(given) as scheduler:
        assert scheduler.footprints.import_calibration(out) == 0  # all is known already
        served = choose("tiny", kind="cpu", models_dir=tmp_path).served
        predictor = scheduler.footprints.current()
        params = replace(TINY, num_frames=3)
        assert predictor.explain(served, kind="cpu", plan="fp32", params=params) == "measured 1 time here"
        predicted = predictor.predict(served, kind="cpu", plan="fp32", params=params)
        measured = next(each for each in record.measurements if each.shape == "64x64x3")
        assert measured.working_peak_bytes is not None
        assert predicted.working_bytes >= measured.working_peak_bytes


@pytest.mark.usefixtures("small_grid")
def test_without_import_the_store_is_not_touched(settings: Callable[..., WorkerSettings]) -> None:
    given = settings()
    calibrate.calibrate(given, grid=Grid.QUICK, out=None, imports=False)
    assert (given.data_dir / f"calibration-cpu-{catalog.TINY_MODEL_ID}.json").is_file()
    assert not (given.data_dir / "reelq.db").exists()


@pytest.mark.usefixtures("small_grid")
def test_beside_a_worker_nothing_is_measured(settings: Callable[..., WorkerSettings]) -> None:
    given = settings()
    probe = discover("cpu", cpu_budget_bytes=2**30)
    (device,) = probe.devices()
    run = given.data_dir / "run"
    run.mkdir(parents=True)
    with (run / f"{device.id}-0.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(calibrate.Busy, match=f"reelq drain {device.id}"):
            calibrate.calibrate(given, grid=Grid.QUICK, out=None, imports=False)


@pytest.mark.usefixtures("small_grid")
def test_where_nothing_fits_nothing_is_written(settings: Callable[..., WorkerSettings]) -> None:
    given = settings(cpu_memory_bytes=600 * 2**20)
    with pytest.raises(calibrate.NothingMeasured):
        calibrate.calibrate(given, grid=Grid.QUICK, out=None, imports=False)
    assert list(given.data_dir.glob("*.json")) == []


@pytest.mark.usefixtures("small_grid")
def test_a_file_that_cannot_be_written_is_an_os_error(settings: Callable[..., WorkerSettings], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        calibrate.calibrate(settings(), grid=Grid.QUICK, out=tmp_path / "nowhere" / "c.json", imports=False)


def test_after_running_out_of_memory_larger_shapes_are_skipped_and_the_next_plan_is_tried(models_dir: Path) -> None:
    found = _run(models_dir, Stumbling, cases(SHEET, ("fp32", "fp32-chunked"), SMALL))
    each_plan = [Outcome.MEASURED, Outcome.OUT_OF_MEMORY, Outcome.TOO_LARGE]
    assert [each.outcome for each in found] == each_plan * 2
    assert all((each.figures is None) == (each.outcome is not Outcome.MEASURED) for each in found)


def test_what_ran_out_of_memory_is_learned_as_a_lower_bound(
    settings: Callable[..., WorkerSettings], tmp_path: Path
) -> None:
    (case,) = cases(SHEET, ("fp32",), SMALL[:1])
    found = [Finding(case, Outcome.OUT_OF_MEMORY, bound_bytes=3 * 2**30), Finding(case, Outcome.TOO_LARGE)]
    served = choose("tiny", kind="cpu", models_dir=tmp_path).served
    bounds = calibrate.bounds(found, kind="cpu", model=served.id)
    assert [(each.source, each.working_peak_bytes) for each in bounds] == [(Source.OUT_OF_MEMORY, 3 * 2**30)]
    with Scheduler.open(settings()) as scheduler:
        scheduler.footprints.observe(bounds)
        with scheduler.database.read() as conn:
            assert len(observations.latest(conn, scheduler.database.now(conn))) == 1
        predicted = scheduler.footprints.current().predict(served, kind="cpu", plan="fp32", params=TINY)
        assert predicted.working_bytes > 3 * 2**30


def test_a_plan_whose_weights_do_not_fit_is_left(models_dir: Path) -> None:
    class Large(I2VGenXL):
        def use(self, plan: str) -> None:
            if plan == "fp32-chunked":
                raise torch.OutOfMemoryError("injected")
            super().use(plan)

    found = _run(models_dir, Large, cases(SHEET, ("fp32", "fp32-chunked"), SMALL[:2]))
    assert [each.outcome for each in found] == [
        Outcome.MEASURED,
        Outcome.MEASURED,
        Outcome.OUT_OF_MEMORY,
        Outcome.TOO_LARGE,
    ]


def test_weights_that_make_no_picture_tell_nothing(models_dir: Path) -> None:
    class Black(Stumbling):
        error = BlackFrame("frame 1 of 3 is black")

    found = _run(models_dir, Black, cases(SHEET, ("fp32",), SMALL[:2]))
    assert [each.outcome for each in found] == [Outcome.MEASURED, Outcome.NO_PICTURE]


def test_any_other_failure_is_an_error(models_dir: Path) -> None:
    class Broken(Stumbling):
        error = RuntimeError("a kernel is missing")

    with pytest.raises(RuntimeError, match="a kernel is missing"):
        _run(models_dir, Broken, cases(SHEET, ("fp32",), SMALL[:2]))


def test_on_a_cpu_what_is_predicted_not_to_fit_is_not_tried(models_dir: Path) -> None:
    todo = cases(SHEET, ("fp32",), [Shape(64, 64, 2), Shape(1024, 1024, 64)])
    room_bytes = todo[0].predicted.vram_bytes
    assert [each.outcome for each in _run(models_dir, I2VGenXL, todo, room_bytes=room_bytes)] == [
        Outcome.MEASURED,
        Outcome.TOO_LARGE,
    ]


@pytest.mark.parametrize("name", [catalog.I2VGEN_XL, catalog.I2VGEN_XL_TINY])
@pytest.mark.parametrize(("grid", "count"), [(Grid.QUICK, 4), (Grid.FULL, 12)])
def test_the_grid_is_within_the_models_limits_and_grows(name: str, grid: Grid, count: int) -> None:
    architecture = catalog.architecture(name)
    found = shapes(architecture, grid)
    assert len(found) == len(set(found)) == count
    for shape in found:
        params = replace(architecture.defaults, width=shape.width, height=shape.height, num_frames=shape.num_frames)
        architecture.limits.check(params)
    work = [architecture.cost.step_flops(shape) for shape in found]
    assert work == sorted(work)


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--plans", "fp99"], "setting plans: ", 78),
        (["--model", "/nowhere"], "/nowhere", 78),
        (["--device", "cuda"], "device cuda: ", 78),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    arguments: list[str],
    said: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli.logs, "configure", lambda _format: None)
    common = ["reelq-worker", "calibrate", "--data", str(tmp_path / "data"), "--no-import"]
    monkeypatch.setattr(sys, "argv", [*common, "--device", "cpu", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("reelq-worker: ")
    assert said in line


def test_the_table_has_a_line_for_every_case() -> None:
    first, second = cases(SHEET, ("fp32",), SMALL[:2])
    figures = Figures(2**30, 2**20, encode_seconds=0.1, step_seconds=0.2, decode_seconds=0.3)
    shown = calibrate.table([Finding(first, Outcome.MEASURED, figures), Finding(second, Outcome.TOO_LARGE)])
    assert shown.row_count == 2
