"""The `reelq-worker` command."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from pydantic import ValidationError

from scheduler import logs
from scheduler.errors import SchedulerError, StoreError, StoreUnreachable
from scheduler.processes import EXIT_CONFIG
from workers.settings import WorkerSettings

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)

Data = Annotated[Path | None, typer.Option("--data", help="Folder for the embedded database, blobs and models.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="tiny (random weights: noise), a folder, or a hub id; auto: I2VGen-XL on a GPU, else tiny."
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option("--device", help="auto: this machine's GPUs, or the CPU where there are none."),
]


@app.callback(invoke_without_command=True)
def start(context: typer.Context, data: Data = None, model: Model = None, device: Device = None) -> None:
    """Serve this machine's GPUs: one worker process each, restarted when it dies, until SIGTERM.

    Settings come from flags, then REELQ_* variables, then the TOML file named by REELQ_CONFIG.
    """
    if context.invoked_subcommand is None:
        settings = _settings(data_dir=data, model=model, device=device)
        # Run again as `… supervisor`, so that ps and nvidia-smi show what this process is.
        os.environ.update(settings.environment())
        os.execv(sys.executable, [sys.executable, "-m", "workers", "supervisor"])  # noqa: S606  fixed arguments


@app.command()
def calibrate(
    data: Data = None,
    model: Model = None,
    device: Device = None,
    plans: Annotated[str | None, typer.Option(help="Plans to measure, separated by commas; default: all.")] = None,
    grid: Annotated[Literal["quick", "full"], typer.Option(help="How many shapes: 4 or 12 for each plan.")] = "full",
    out: Annotated[Path | None, typer.Option(help="The file to write; default: in the data directory.")] = None,
    imports: Annotated[
        bool, typer.Option("--import/--no-import", help="Whether predictions here rest on it from now on.")
    ] = True,
) -> None:
    """Measure what jobs need on this machine's first GPU: memory and seconds, by plan and shape. Takes minutes."""
    from scheduler.calibration import CalibrationError
    from workers.calibrate import Busy, NothingMeasured
    from workers.calibrate import calibrate as run
    from workers.calibration import Grid
    from workers.devices import ProbeError
    from workers.model_folder import ModelFolderError

    settings = _settings(data_dir=data, model=model, device=device, plans=plans)
    logs.configure(settings.log_format)
    try:
        run(settings, grid=Grid(grid), out=out, imports=imports)
    except (Busy, NothingMeasured, StoreUnreachable) as error:
        _refuse(error, exit_code=1)
    except (StoreError, ModelFolderError, ProbeError, CalibrationError, OSError) as error:
        _refuse(error)


@app.command(hidden=True)
def supervisor() -> None:
    """Supervise this machine's GPUs; settings come from the environment."""
    from scheduler.calibration import CalibrationError
    from workers.devices import ProbeError
    from workers.model_folder import ModelFolderError
    from workers.slot import ModelUnusable
    from workers.supervisor import supervise

    settings = _settings()
    logs.configure(settings.log_format)
    try:
        supervise(settings)
    except StoreUnreachable as error:
        _refuse(error, exit_code=1)  # it may come up later than this process
    except (StoreError, ModelFolderError, ProbeError, CalibrationError) as error:
        _refuse(error)
    except ModelUnusable:
        sys.exit(EXIT_CONFIG)  # the worker has said why


@app.command(hidden=True)
def gpu_worker(
    gpu: Annotated[str, typer.Option(help="The GPU to own.")],
    worker_id: Annotated[str, typer.Option(help="The id to register under.")],
    slot: Annotated[int, typer.Option(help="Which of the GPU's workers this is, from 0.", min=0)] = 0,
) -> None:
    """Own one GPU, or a share of it; settings come from the environment."""
    from workers import last_words
    from workers.devices import ProbeError
    from workers.gpu_worker import run_gpu_worker
    from workers.model_folder import ModelFolderError

    settings = _settings()
    logs.configure(settings.log_format)
    try:
        run_gpu_worker(settings, worker_id=worker_id, gpu_id=gpu, slot=slot)
    except ModelFolderError as error:
        _refuse(error)
    except (SchedulerError, ProbeError, OSError) as error:
        last_words.leave(settings.data_dir, worker_id, str(error))
        _refuse(error, exit_code=1)  # it may pass: the supervisor starts another worker
    except Exception as error:
        last_words.leave(settings.data_dir, worker_id, f"{type(error).__name__}: {error}")
        raise


def _settings(**given: Any) -> WorkerSettings:
    try:
        return WorkerSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            setting = ".".join(str(part) for part in problem["loc"])
            print(f"reelq-worker: setting {setting}: {problem['msg']}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CONFIG)
    except (OSError, ValueError) as error:
        _refuse(error, what="settings file: ")


def _refuse(error: Exception, *, what: str = "", exit_code: int = EXIT_CONFIG) -> NoReturn:
    print(f"reelq-worker: {what}{error}", file=sys.stderr)  # noqa: T201  one clear line, not a log record
    sys.exit(exit_code)


def main() -> None:
    """Entry point."""
    app()
