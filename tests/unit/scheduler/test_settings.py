"""Where settings come from, and how a wrong one is refused."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from scheduler.policy import Policy
from scheduler.settings import StoreSettings
from scheduler.windows import read_windows


class WorkerLike(StoreSettings):
    """Settings of one kind of process."""

    section: ClassVar[str | None] = "worker"

    device: str = "auto"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty current folder and no settings in the environment."""
    import os

    for name in list(os.environ):
        if name.startswith("REELQ_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_are_the_policys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/var/lib/somewhere")
    settings = StoreSettings()

    assert settings.policy() == Policy()
    assert settings.data_dir == Path("/var/lib/somewhere/reelq")
    assert settings.resolved_database_url == "sqlite:////var/lib/somewhere/reelq/reelq.db"
    assert settings.resolved_blob_url == "file:///var/lib/somewhere/reelq/blobs"


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELQ_DATA_DIR", "data")
    monkeypatch.setenv("REELQ_DATABASE_URL", "postgresql://db/reelq")
    monkeypatch.setenv("REELQ_BLOB_URL", "s3://bucket/prefix")
    monkeypatch.setenv("REELQ_TAU_SECONDS", "inf")
    monkeypatch.setenv("REELQ_LEASE_SECONDS", "2.5")
    settings = StoreSettings()

    assert settings.data_dir == Path.cwd() / "data"
    assert settings.resolved_database_url == "postgresql://db/reelq"
    assert settings.resolved_blob_url == "s3://bucket/prefix"
    policy = settings.policy()
    assert (policy.tau_seconds, policy.lease_seconds, policy.worker_ttl_seconds) == (math.inf, 2.5, 2.5)


def test_a_file_sets_them_below_the_environment(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "reelq.toml").write_text("max_attempts = 5\nmax_queued = 7\n")
    monkeypatch.setenv("REELQ_MAX_QUEUED", "8")

    settings = StoreSettings(lease_seconds=1)

    assert (settings.max_attempts, settings.max_queued, settings.lease_seconds) == (5, 8, 1)


def test_each_kind_of_process_reads_its_section(elsewhere: Path) -> None:
    (elsewhere / "reelq.toml").write_text(
        'max_attempts = 5\nmax_queued = 7\n[worker]\ndevice = "cuda"\nmax_queued = 9\n[frontend]\nport = 1\n'
    )

    assert (StoreSettings().max_attempts, StoreSettings().max_queued) == (5, 7)
    worker = WorkerLike()
    assert (worker.device, worker.max_attempts, worker.max_queued) == ("cuda", 5, 9)


def test_a_named_file_is_read_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other" / "mine.toml"
    path.parent.mkdir()
    path.write_text("max_attempts = 6\n")
    monkeypatch.setenv("REELQ_CONFIG", str(path))

    assert StoreSettings().max_attempts == 6


@pytest.mark.parametrize("text", ["max_atempts = 5\n", "[worker]\nmax_atempts = 5\n"])
def test_a_misspelt_key_is_refused_by_name(elsewhere: Path, text: str) -> None:
    (elsewhere / "reelq.toml").write_text(text)

    with pytest.raises(ValidationError) as refused:
        WorkerLike()

    (error,) = refused.value.errors()
    assert (error["type"], error["loc"]) == ("extra_forbidden", ("max_atempts",))


def test_a_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELQ_CONFIG", "missing.toml")

    with pytest.raises(FileNotFoundError, match=r"missing\.toml"):
        StoreSettings()


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"max_attempts = \n", "Invalid value"), (b"\xff\xfe", "utf-8"), (b"worker = 3\n", "worker must be a table")],
)
def test_a_file_that_makes_no_sense_is_named(elsewhere: Path, content: bytes, why: str) -> None:
    (elsewhere / "reelq.toml").write_bytes(content)

    with pytest.raises(ValueError, match=rf"^reelq\.toml: .*{why}"):
        WorkerLike()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TAU_SECONDS", "0"),
        ("TAU_SECONDS", "nan"),
        ("MEMORY_CLASS_BYTES", "1"),
        ("LEASE_SECONDS", "-1"),
        ("MAX_ATTEMPTS", "0"),
        ("MAX_QUEUED", "many"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"REELQ_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        StoreSettings()


def test_a_child_process_gets_the_same_settings(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = StoreSettings(data_dir=elsewhere / "ü b", tau_seconds=math.inf, blob_url="s3://bucket/x", max_queued=3)

    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    assert StoreSettings() == settings


def test_the_off_peak_window_is_read_in_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELQ_OFF_PEAK", "* 22-23,0-5 * * *; * * * * 0")
    monkeypatch.setenv("REELQ_OFF_PEAK_TIME_ZONE", "Europe/Berlin")

    settings = StoreSettings()

    assert settings.policy().off_peak == read_windows("* 22-23,0-5 * * * | * * * * 0", "Europe/Berlin")
    assert settings.environment()["REELQ_OFF_PEAK"] == "* 22-23,0-5 * * *; * * * * 0"


@pytest.mark.parametrize(
    ("values", "name", "wrong"),
    [
        ({"off_peak": "* 25 * * *"}, "off_peak", "'* 25 * * *' is no cron expression: Bad hour"),
        ({"off_peak": "22:00-06:00"}, "off_peak", "has 1 fields, not 5: minute, hour, day, month, weekday"),
        ({"off_peak_time_zone": "Berlin"}, "off_peak_time_zone", "'Berlin' is no time zone of the IANA"),
        (
            {"off_peak": "* 22 * * *", "off_peak_time_zone": "Berlin"},
            "off_peak_time_zone",
            "'Berlin' is no time zone of the IANA",
        ),
    ],
)
def test_a_window_that_is_none_is_refused(values: dict[str, Any], name: str, wrong: str) -> None:
    with pytest.raises(ValidationError) as refused:
        StoreSettings(**values)

    (error,) = refused.value.errors()
    assert error["loc"] == (name,)
    assert wrong in error["msg"]
