"""The worker's settings: where they come from, and what a child process is handed."""

import importlib.machinery
import re
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
    "plans": "fp16,fp16-chunked",
    "workers_per_gpu": 2,
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


@pytest.mark.parametrize("installed", [True, False])
def test_plans_are_by_default_those_that_the_device_and_the_packages_can_run(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.machinery.ModuleSpec("torchao", None) if installed else None
    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", {"torchao": spec}.get)
    settings = WorkerSettings()
    assert settings.plans_for("cpu") == ("fp32", "fp32-chunked")
    on_a_gpu = ("fp16", "fp16-chunked", "fp16-offload", "fp16-streamed")
    assert settings.plans_for("NVIDIA T4") == on_a_gpu + (("int8",) if installed else ())


def test_chosen_plans_go_for_every_device_from_the_fastest_to_the_leanest() -> None:
    settings = WorkerSettings(plans=" fp16-offload , fp16")
    assert settings.plans_for("cpu") == settings.plans_for("NVIDIA T4") == ("fp16", "fp16-offload")
    assert WorkerSettings(plans=" auto ").plans_for("cpu") == ("fp32", "fp32-chunked")


@pytest.mark.parametrize(
    ("plans", "said"),
    [
        ("fp8", "unknown plan 'fp8'; there are auto and fp32, fp32-chunked, fp16"),
        ("fp16,", "unknown plan ''"),
        ("auto,fp16", "unknown plan 'auto'"),
        ("int8", "plan int8 needs the package torchao"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(plans: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", lambda _name: None)
    with pytest.raises(ValidationError, match=re.escape(said)):
        WorkerSettings(plans=plans)
