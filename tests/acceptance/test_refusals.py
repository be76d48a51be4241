"""What cannot work is said in one clear line, with a non-zero exit, and leaves nothing running."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from scheduler.store.database import Database, sqlite_url
from scheduler.store.migrate import migrate
from tests.support.service import free_port
from workers.models import tiny_folder

pytestmark = pytest.mark.acceptance


def refused(*arguments: str, **environment: str) -> str:
    """Run a `reelq` command that must refuse; returns its only line of stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=os.environ | {"REELQ_LOG_FORMAT": "console"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode not in (0, None), ended.stderr
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("reelq")]
    assert len(said) == 1, ended.stderr
    return said[0]


def up(data_dir: Path, *arguments: str, **environment: str) -> str:
    port = str(free_port())
    return refused("up", "--data", str(data_dir), "--port", port, "--device", "cpu", *arguments, **environment)


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = refused("up", "--data", str(tmp_path), "--port", port, "--model", "tiny")
    assert port in line
    assert "in use" in line


def test_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in up(tmp_path / "data", "--model", "tiny")


def test_database_of_a_newer_version(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "reelq.db"))
    migrate(database)
    with database.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert "newer" in up(tmp_path, "--model", "tiny")


def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "reelq.db").write_bytes(b"not a database, whatever its name says" * 100)
    assert "not a database" in up(tmp_path, "--model", "tiny")


def test_sqlite_that_is_too_old(tmp_path: Path) -> None:
    shim = tmp_path / "shim" / "pysqlite3"
    shim.mkdir(parents=True)
    (shim / "__init__.py").write_text(
        "import sqlite3 as dbapi2\nsqlite_version_info = (3, 40, 1)\nsqlite_version = '3.40.1'\n"
    )
    path = os.pathsep.join([str(tmp_path / "shim"), str(Path.cwd())])
    line = up(tmp_path / "data", "--model", "tiny", PYTHONPATH=path)
    assert "3.40.1" in line
    assert "3.51.3" in line


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "model_index.json is missing"),
        (lambda path: path.write_text("x"), "a file, not a folder"),
        (lambda path: None, "no such folder"),
    ],
)
def test_wrong_model_folder(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path / "model")  # type: ignore[operator]
    assert said in up(tmp_path / "data", "--model", str(tmp_path / "model"))


def test_wrong_weights(tmp_path: Path, models_dir: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(models_dir).path, folder)
    weights = next((folder / "unet").glob("*.safetensors"))
    tensors = load_file(weights)
    tensors["conv_in.other"] = tensors.pop("conv_in.weight")
    save_file(tensors, weights)
    line = up(tmp_path / "data", "--model", str(folder))
    assert "unet" in line
    assert "conv_in" in line


def test_cuda_demanded_where_there_is_none(tmp_path: Path) -> None:
    port = str(free_port())
    line = refused("up", "--data", str(tmp_path), "--port", port, "--device", "cuda", "--model", "tiny")
    assert "NVML" in line


def test_open_host_without_keys(tmp_path: Path) -> None:
    assert "0.0.0.0" in up(tmp_path, "--host", "0.0.0.0", "--model", "tiny")  # noqa: S104  that is the point


def test_setting_out_of_range_is_named(tmp_path: Path) -> None:
    assert "tau_seconds" in up(tmp_path, "--model", "tiny", REELQ_TAU_SECONDS="-1")
