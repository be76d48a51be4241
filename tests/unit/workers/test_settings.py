"""The worker's settings: where they come from, and what a child process is handed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from workers.settings import WorkerSettings

_EVERY = {
    "data_dir": "/data",
    "database_url": "postgresql:///reelq",
    "blob_url": "s3://bucket/x",
    "model": "ali-vilab/i2vgen-xl",
    "device": "cuda",
    "models_dir": "/models",
    "cpu_memory_bytes": 2**30,
    "cpu_threads": 3,
    "headroom_bytes": 0,
    "crf": 23,
    "poll_seconds": 0.25,
    "sample_seconds": 1.5,
    "shutdown_seconds": 5.0,
    "lease_seconds": 4.0,
    "max_attempts": 5,
    "log_format": "json",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a test's own."""
    monkeypatch.chdir(tmp_path)


def test_a_child_process_gets_every_setting_through_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = WorkerSettings(**_EVERY)
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)
    assert WorkerSettings() == parent


def test_a_child_process_of_defaults_gets_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = WorkerSettings()
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)
    assert WorkerSettings() == parent
    assert parent.cpu_threads is None


def test_arguments_come_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reelq.toml").write_text(
        'crf = 30\nmax_attempts = 7\nheadroom_bytes = 5\n[worker]\ncrf = 31\nmodel = "tiny"\n[frontend]\nport = 1\n'
    )
    monkeypatch.setenv("REELQ_HEADROOM_BYTES", "6")
    settings = WorkerSettings(model="auto")
    assert (settings.crf, settings.max_attempts, settings.headroom_bytes) == (31, 7, 6)
    assert settings.model == "auto"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "tpu"),
        ("crf", 0),
        ("crf", 52),
        ("cpu_threads", 0),
        ("headroom_bytes", -1),
        ("cpu_memory_bytes", 512 * 2**20 - 1),
        ("poll_seconds", 0),
        ("sample_seconds", 0),
        ("shutdown_seconds", 0),
        ("lease_seconds", 0),
    ],
)
def test_what_is_outside_its_limit_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        WorkerSettings(**{name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


def test_models_live_in_the_data_directory_unless_told_otherwise(tmp_path: Path) -> None:
    assert WorkerSettings(data_dir=tmp_path).resolved_models_dir == tmp_path / "models"
    assert WorkerSettings(data_dir=tmp_path, models_dir=Path("m")).resolved_models_dir == tmp_path / "m"
