"""Settings that the front end and the workers share: where the state lives, and how the queue behaves.

Each setting is read from `REELQ_<NAME>`, else from a TOML file: the one named by `REELQ_CONFIG`, or `reelq.toml` in
the current folder. In the file, keys at the top are for all processes, `[frontend]` and `[worker]` for one kind.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from scheduler.limits import RATE_MAX, TenantLimits
from scheduler.params import PRIORITY_MAX, PRIORITY_MIN
from scheduler.policy import MIB, Order, Policy
from scheduler.store.database import sqlite_url
from scheduler.windows import read_windows, read_zone

_SECTIONS = ("frontend", "worker")


def _zone(name: str) -> str:
    read_zone(name)
    return name


TimeZone = Annotated[str, AfterValidator(_zone)]  # one of the IANA's, by its name


class StoreSettings(BaseSettings):
    """What every process must agree on."""

    model_config = SettingsConfigDict(env_prefix="REELQ_", extra="forbid")
    section: ClassVar[str | None] = None

    data_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "reelq",
        description="Folder for the embedded database, blobs, the tiny model and sockets",
    )
    database_url: str | None = Field(None, description="sqlite:///… or postgresql://…; default: SQLite in data_dir")
    blob_url: str | None = Field(None, description="file:///… or s3://bucket/prefix; default: a folder in data_dir")
    queue_order: Order = Field(
        Order.WEIGHTED, description="weighted (seconds / GiB * priority), fifo or shortest_first"
    )
    tau_seconds: float = Field(600.0, ge=1, description="Ageing: how fast waiting makes up for weight")
    memory_class_bytes: int = Field(64 * MIB, ge=MIB, description="Footprints are rounded up to a multiple of this")
    lease_seconds: float = Field(10.0, ge=1, description="Silence after which an attempt counts as dead")
    max_attempts: int = Field(3, ge=1, description="Attempts before a failing job is given up")
    max_queued: int = Field(10_000, ge=1, description="Jobs that may wait; more are answered 429")
    tenant_max_queued: int | None = Field(
        None, ge=0, description="Jobs of one tenant that may wait, unless `reelq tenants` sets its own limit"
    )
    tenant_max_running: int | None = Field(
        None, ge=0, description="Jobs of one tenant that may run at once, likewise; for jobs submitted from then on"
    )
    tenant_max_priority: float | None = Field(
        None, ge=PRIORITY_MIN, le=PRIORITY_MAX, description="Highest priority that a tenant may ask for, likewise"
    )
    tenant_submits_per_minute: int | None = Field(
        None, ge=1, le=RATE_MAX, description="Submits of one tenant in a minute, likewise"
    )
    tenant_requests_per_minute: int | None = Field(
        None, ge=1, le=RATE_MAX, description="Requests of any kind of one tenant in a minute, likewise"
    )
    off_peak_time_zone: TimeZone = Field("UTC", description="The time zone of off_peak, such as Europe/Berlin")
    off_peak: str = Field(
        "",
        description="When jobs of the off-peak window may start: cron expressions, separated by ; or |, whose minutes"
        " are the window: * 22-23,0-5 * * * is from 22:00 to 06:00; empty: there is no such window",
    )
    reserve_after_seconds: float = Field(
        300.0, ge=0, description="A job that memory holds back for longer gets a GPU reserved"
    )
    hang_seconds: float = Field(120.0, gt=0, description="No progress for so long, at least, counts as hung")
    retention_days: float = Field(90.0, gt=0, description="How long ended jobs, their files and events are kept")
    result_days: float | None = Field(None, gt=0, description="How long videos are kept; default: as their jobs")
    shutdown_seconds: float = Field(60.0, gt=0, description="How long a worker may take to end its step and exit")
    log_format: str = Field("auto", pattern="^(auto|json|console)$", description="auto: console on a terminal")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("off_peak")
    @classmethod
    def _windows(cls, value: str, info: ValidationInfo) -> str:
        if "off_peak_time_zone" in info.data:  # or that has been refused
            read_windows(value, info.data["off_peak_time_zone"])
        return value

    @property
    def resolved_database_url(self) -> str:
        """The database to use."""
        return self.database_url or sqlite_url(self.data_dir / "reelq.db")

    @property
    def resolved_blob_url(self) -> str:
        """The blob store to use."""
        return self.blob_url or (self.data_dir / "blobs").as_uri()

    def environment(self) -> dict[str, str]:
        """Return these settings as variables for a child process, which then needs no flags or file."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"REELQ_{name.upper()}": str(value) for name, value in values.items()}

    def policy(self) -> Policy:
        """Return the queue's policy."""
        return Policy(
            order=self.queue_order,
            tau_seconds=self.tau_seconds,
            memory_class_bytes=self.memory_class_bytes,
            lease_seconds=self.lease_seconds,
            worker_ttl_seconds=self.lease_seconds,
            max_attempts=self.max_attempts,
            max_queued=self.max_queued,
            tenant_limits=TenantLimits(
                max_queued=self.tenant_max_queued,
                max_running=self.tenant_max_running,
                max_priority=self.tenant_max_priority,
                submits_per_minute=self.tenant_submits_per_minute,
                requests_per_minute=self.tenant_requests_per_minute,
            ),
            off_peak=read_windows(self.off_peak, self.off_peak_time_zone),
            reserve_after_seconds=self.reserve_after_seconds,
            hang_seconds=self.hang_seconds,
            retention_seconds=self.retention_days * 86_400,
            result_seconds=None if self.result_days is None else self.result_days * 86_400,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order: arguments, environment, TOML file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _from_toml(cls.section))


def _from_toml(section: str | None) -> dict[str, Any]:
    path = Path(os.environ.get("REELQ_CONFIG", "reelq.toml"))
    if "REELQ_CONFIG" not in os.environ and not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    mine = values.get(section, {}) if section else {}
    if not isinstance(mine, dict):
        raise ValueError(f"{path}: {section} must be a table, [{section}]")  # noqa: TRY004  what all bad values are
    return {key: value for key, value in values.items() if key not in _SECTIONS} | mine
