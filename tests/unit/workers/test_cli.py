"""The command line: flags become the environment of a supervisor, and a wrong setting is one clear line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler.errors import DatabaseNewer, NotFound, StorageFull, StoreUnreachable
from workers import cli, gpu_worker, last_words, supervisor
from workers.devices import ProbeAbsent
from workers.model_folder import ModelFolderError
from workers.settings import WorkerSettings
from workers.slot import ModelUnusable


class Replaced(Exception):
    """The process would run another program now."""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without settings, an environment of the test's own, and no other program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def execv(path: str, arguments: list[str]) -> None:
        raise Replaced(path, arguments)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(cli.logs, "configure", lambda _format: None)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["reelq-worker", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_flags_reach_the_supervisor_through_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["reelq-worker", "--data", str(tmp_path / "d"), "--model", "tiny", "--device", "cpu"]
    )
    with pytest.raises(Replaced) as caught:
        cli.main()
    assert caught.value.args == (sys.executable, [sys.executable, "-m", "workers", "supervisor"])
    inherited = WorkerSettings()
    assert (inherited.data_dir, inherited.model, inherited.device) == (tmp_path / "d", "tiny", "cpu")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("REELQ_DEVICE", "tpu", "setting device: Input should be 'auto', 'cpu' or 'cuda'"),
        ("REELQ_CRF", "99", "setting crf: "),
        ("REELQ_LEASE_SECONDS", "soon", "setting lease_seconds: "),
        ("REELQ_CONFIG", "/nowhere/reelq.toml", "settings file: "),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_78(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert _run(monkeypatch) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reelq-worker: {said}")


def test_a_broken_settings_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reelq.toml").write_text("crf = [")
    assert _run(monkeypatch) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reelq-worker: settings file: ")


def test_a_wrong_flag_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "--device", "tpu") == 2
    assert "--device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatabaseNewer("a newer schema"), 78),
        (ModelFolderError("no model"), 78),
        (ProbeAbsent("device cuda: no driver"), 78),
        (StoreUnreachable("no store"), 1),  # a database may start later than its clients
    ],
)
def test_a_supervisor_that_cannot_work_says_why_and_whether_to_start_it_again(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "supervise", _raising(error))
    assert _run(monkeypatch, "supervisor") == code
    assert capsys.readouterr().err == f"reelq-worker: {error}\n"


def test_a_supervisor_whose_worker_has_spoken_adds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "supervise", _raising(ModelUnusable("it cannot")))
    assert _run(monkeypatch, "supervisor") == 78
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelFolderError("the model is broken"), 78),
        # These may pass, and must not take the other GPUs' workers down.
        (StoreUnreachable("the database restarts"), 1),
        (StorageFull("no room"), 1),
        (ProbeAbsent("the driver is reloading"), 1),
        (NotFound("no GPU x"), 1),
    ],
)
def test_a_gpu_worker_says_why_and_whether_to_try_again(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_worker, "run_gpu_worker", _raising(error))
    assert _run(monkeypatch, "gpu-worker", "--gpu", "x", "--worker-id", "y") == code
    assert capsys.readouterr().err == f"reelq-worker: {error}\n"


@pytest.mark.parametrize(("error", "said"), [(NotFound("no GPU x"), "no GPU x"), (KeyError("y"), "KeyError: 'y'")])
def test_a_gpu_worker_that_fails_leaves_its_supervisor_a_line(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("REELQ_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(gpu_worker, "run_gpu_worker", _raising(error))
    monkeypatch.setattr(sys, "argv", ["reelq-worker", "gpu-worker", "--gpu", "x", "--worker-id", "worker_y"])
    with pytest.raises((SystemExit, KeyError)):
        cli.main()
    assert last_words.take(tmp_path, "worker_y") == said


def test_a_gpu_worker_is_told_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(gpu_worker, "run_gpu_worker", lambda _settings, **given: told.append(given))
    _run(monkeypatch, "gpu-worker", "--gpu", "x", "--worker-id", "y")
    _run(monkeypatch, "gpu-worker", "--gpu", "x", "--worker-id", "y", "--slot", "3")
    assert told == [{"worker_id": "y", "gpu_id": "x", "slot": slot} for slot in (0, 3)]


def _raising(error: Exception) -> Callable[..., None]:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    return fail
