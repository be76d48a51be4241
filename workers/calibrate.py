"""`reelq-worker calibrate`: measure this machine's device, write the calibration file, and tell the store."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from scheduler.calibration import Calibration, Measurement
from scheduler.learning import Observation
from scheduler.service import Scheduler
from scheduler.states import Source
from workers.calibration import Calibrator, Case, Figures, Finding, Grid, Outcome, cases, shapes
from workers.devices import DeviceInfo, DeviceProbe, ProbeAbsent, discover
from workers.meter import CpuMeter, CudaMeter, Meter
from workers.model_folder import ModelFolderError
from workers.models import ModelChoice, choose, tiny_folder
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL

_GIB = 2**30
_TABLE_WIDTH = 120  # also where nobody says how wide the terminal is


class Busy(Exception):
    """A worker has the device: its jobs would be disturbed, and the measurements too."""


class NothingMeasured(Exception):
    """No case could be measured."""


def calibrate(settings: WorkerSettings, *, grid: Grid, out: Path | None, imports: bool) -> None:
    """Measure the first device that `settings` mean with the plans they name, and print what was found.

    Writes the calibration to `out` (default: in the data directory), and with `imports` into the store, together with
    what ran out of memory. Raises `Busy`, `NothingMeasured`, `ModelFolderError`, `ProbeError`, `StoreError`, OSError.
    """
    notes = Console(stderr=True)
    with ExitStack() as stack:
        scheduler = stack.enter_context(Scheduler.open(settings)) if imports else None  # before minutes are spent
        probe = discover(settings.device, cpu_budget_bytes=settings.cpu_memory_bytes)
        stack.callback(probe.close)
        device = probe.devices()[0]
        choice = choose(settings.model, kind=device.kind, models_dir=settings.resolved_models_dir)
        stack.enter_context(_alone_on(device, settings))
        findings = _measure(settings, grid, choice, device, probe, notes)
        plain = Console()
        plain.print(table(findings), width=max(plain.width, _TABLE_WIDTH), crop=False)
        record = _record(findings, choice, device)
        path = out or settings.data_dir / f"calibration-{_slug(device.kind)}-{_slug(choice.served.id)}.json"
        record.write(path)
        notes.print(f"written to {path}")
        if scheduler is not None:
            count = scheduler.footprints.import_calibration(record)
            scheduler.footprints.observe(bounds(findings, kind=device.kind, model=choice.served.id))
            notes.print(f"imported {count} measurements: predictions rest on them from now on")


def bounds(findings: Sequence[Finding], *, kind: str, model: str) -> list[Observation]:
    """Return what ran out of memory, as the scheduler learns it."""
    return [
        Observation(Source.OUT_OF_MEMORY, kind, model, each.case.plan, each.case.shape.key, each.bound_bytes)
        for each in findings
        if each.bound_bytes is not None
    ]


def table(findings: Sequence[Finding]) -> Table:
    """Return the findings for people: peaks of the whole process in GiB, predicted and measured, and seconds."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("plan")
    shown.add_column("shape")
    for name in ("GiB predicted", "measured", "s/step predicted", "measured", "encode s", "decode s"):
        shown.add_column(name, justify="right")
    shown.add_column("")
    for each in findings:
        case, figures = each.case, each.figures
        measured = ["", "", "", ""]
        if figures is not None:
            peak = figures.vram_peak_bytes
            measured = [
                "unknown" if peak is None else f"{peak / _GIB:.2f}",
                f"{figures.step_seconds:.3f}",
                f"{figures.encode_seconds:.2f}",
                f"{figures.decode_seconds:.2f}",
            ]
        shown.add_row(
            case.plan,
            case.shape.key,
            f"{case.predicted.vram_bytes / _GIB:.2f}",
            measured[0],
            f"{case.step_seconds:.3f}",
            *measured[1:],
            "" if each.outcome is Outcome.MEASURED else each.outcome.value,
        )
    return shown


def _measure(
    settings: WorkerSettings,
    grid: Grid,
    choice: ModelChoice,
    device: DeviceInfo,
    probe: DeviceProbe,
    notes: Console,
) -> list[Finding]:
    sheet = choice.architecture.data_sheet(device.kind, choice.served.weights_bytes)
    todo = cases(sheet, settings.plans_for(device.kind), shapes(choice.architecture, grid))
    expected = _duration(sum(case.predicted.seconds for case in todo))
    notes.print(f"{choice.served.id} on {device.name}: {len(todo)} cases, about {expected} by the data sheet")
    load, meter = _open(settings, choice, device, probe)
    room_bytes = device.total_bytes - settings.headroom_bytes if device.kind == "cpu" else None
    from workers.pipelines.components import WrongWeights

    try:
        return list(_shown(Calibrator(load, meter, room_bytes=room_bytes).run(todo), todo, notes))
    except WrongWeights as error:
        raise ModelFolderError(f"model {choice.served.id}: {error}") from error


def _record(findings: Sequence[Finding], choice: ModelChoice, device: DeviceInfo) -> Calibration:
    measurements = tuple(_measurement(each.case, each.figures) for each in findings if each.figures is not None)
    if not measurements:
        raise NothingMeasured("nothing could be measured")
    return Calibration(
        gpu_kind=device.kind,
        model=choice.served.id,
        fingerprint=choice.served.fingerprint,
        measured_at=time.time(),
        software={name: version(name) for name in ("torch", "diffusers", "transformers")},
        measurements=measurements,
    )


def _shown(found: Iterator[Finding], todo: Sequence[Case], console: Console) -> Iterator[Finding]:
    """Pass the findings on, and show how far it is; the bar moves by predicted seconds."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        total = sum(case.predicted.seconds for case in todo)
        task = progress.add_task("loading", total=total)
        for case, finding in zip(todo, found, strict=True):
            progress.update(task, description=f"{case.plan} {case.shape.key}", advance=case.predicted.seconds)
            yield finding


def _open(
    settings: WorkerSettings, choice: ModelChoice, device: DeviceInfo, probe: DeviceProbe
) -> "tuple[Callable[[str], I2VGenXL], Meter]":
    """What loads the model, and the meter, in a process set up as a worker's is."""
    on_cpu = device.kind == "cpu"
    if on_cpu:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.id
    meter: Meter = CpuMeter() if on_cpu else CudaMeter(probe, device.id)
    from workers.pipelines import runtime
    from workers.pipelines.i2vgen_xl import I2VGenXL

    folder = choice.folder or tiny_folder(settings.resolved_models_dir)
    try:
        torch_device = runtime.pick_device("cpu" if on_cpu else "cuda")
    except runtime.DeviceUnavailable as error:
        raise ProbeAbsent(str(error)) from error
    runtime.configure(torch_device, cpu_threads=settings.cpu_threads)
    return lambda plan: I2VGenXL.load(folder, device=torch_device, plan=plan), meter


@contextmanager
def _alone_on(device: DeviceInfo, settings: WorkerSettings) -> Iterator[None]:
    """Hold the locks of the device's workers: those that start meanwhile wait. Raises `Busy` where one has it."""
    folder = settings.data_dir / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        for slot in range(settings.workers_per_gpu):
            file = stack.enter_context((folder / f"{device.id.replace('/', '_')}-{slot}.lock").open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"a worker has {device.id}: empty it first, with `reelq drain {device.id}`") from None
        yield


def _measurement(case: Case, figures: Figures) -> Measurement:
    return Measurement(
        plan=case.plan,
        shape=case.shape.key,
        working_peak_bytes=figures.working_peak_bytes,
        step_seconds=figures.step_seconds,
        fixed_seconds=figures.fixed_seconds,
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
