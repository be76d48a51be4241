"""What can never work: exit code 78, and one clear line on stderr that says why."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_nvml import build_broken
from tests.support.worker_host import WorkerHost
from workers.models import tiny_folder

_TRUNCATED = "vae/diffusion_pytorch_model.fp16.safetensors"


def _run(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    """Run `reelq-worker`; returns its exit code and the lines it meant for a person."""
    settings = {"REELQ_DATA_DIR": str(tmp_path / "data"), "REELQ_DEVICE": "cpu", "REELQ_LOG_FORMAT": "json"}
    done = subprocess.run(
        [sys.executable, "-m", "workers", *arguments],
        env={**_clean_environment(), **settings, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, [line for line in done.stderr.splitlines() if not _is_log_record(line)]


def test_a_model_folder_that_is_not_there(tmp_path: Path) -> None:
    code, (line,) = _run(tmp_path, "--model", str(tmp_path / "nowhere"))
    assert code == 78
    assert line.startswith("reelq-worker: model ")
    assert "nowhere" in line


def test_truncated_weights(tmp_path: Path, models_dir: Path) -> None:
    folder = _copy(models_dir, tmp_path)
    with (folder / _TRUNCATED).open("r+b") as file:
        file.truncate(1000)
    code, (line,) = _run(tmp_path, "--model", str(folder))
    assert code == 78
    assert line.startswith("reelq-worker: model file ")
    assert _TRUNCATED in line
    assert "truncated" in line


def test_weights_that_do_not_fit_their_config_are_found_by_the_worker(tmp_path: Path, models_dir: Path) -> None:
    """Only loading shows it; the worker's line is the only one, and the supervisor does not try again."""
    folder = _copy(models_dir, tmp_path)
    _rename_a_tensor(folder / _TRUNCATED)
    code, (line,) = _run(tmp_path, "--model", str(folder), REELQ_CPU_THREADS="1")
    assert code == 78
    assert line.startswith("reelq-worker: model ")
    assert "vae: tensor " in line


@pytest.mark.parametrize("content", [None, "{}", "no JSON"], ids=["missing", "empty", "not JSON"])
def test_a_calibration_that_cannot_be_read(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_text(content)
    code, (line,) = _run(tmp_path, "--model", "tiny", REELQ_CALIBRATION=str(path))
    assert code == 78
    assert line.startswith("reelq-worker: ")
    assert "calibration" in line


def test_an_unknown_device(tmp_path: Path) -> None:
    code, (line,) = _run(tmp_path, REELQ_DEVICE="tpu")
    assert (code, line) == (78, "reelq-worker: setting device: Input should be 'auto', 'cpu' or 'cuda'")


def test_cuda_without_a_driver(tmp_path: Path) -> None:
    library = build_broken(tmp_path / "nvml")
    code, (line,) = _run(tmp_path, "--device", "cuda", "--model", "tiny", LD_LIBRARY_PATH=str(library))
    assert code == 78
    assert line.startswith("reelq-worker: device cuda: NVML")


@pytest.mark.parametrize("kind", ["file", "URL"])
def test_a_store_that_cannot_be_used(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in its place")
    if kind == "file":
        code, (line,) = _run(tmp_path, "--model", "tiny")
    else:
        code, (line,) = _run(
            tmp_path, "--data", str(tmp_path / "d"), "--model", "tiny", REELQ_DATABASE_URL="mysql://x/y"
        )
    assert code == 1, "not 78: a store may come up later"
    assert line.startswith("reelq-worker: ")


def test_a_data_directory_of_any_length_will_do(tmp_path: Path, models_dir: Path) -> None:
    """A socket's address has about 100 bytes; a longer folder's sockets are reached through its descriptor."""
    folder = tmp_path.joinpath(*["a-very-long-name-of-a-folder"] * 5)
    folder.mkdir(parents=True)
    host = WorkerHost(folder, models_dir)
    try:
        host.start()
        assert host.succeeded(_when_registered(host)).attempts == 1
    finally:
        host.close()


def _when_registered(host: WorkerHost) -> str:
    host.ready_worker()
    return host.submit()


def _copy(models_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder(models_dir).path, tmp_path / "broken-model"))


def _rename_a_tensor(file: Path) -> None:
    """Give one tensor a name of the same length that the config does not know."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__").encode()
    file.write_bytes(content.replace(b'"' + name + b'"', b'"' + b"x" * len(name) + b'"', 1))


def _is_log_record(line: str) -> bool:
    try:
        return "event" in json.loads(line)
    except ValueError:
        return False


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REELQ_")}
