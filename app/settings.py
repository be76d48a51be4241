"""The front end's settings."""

import shlex
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from app.cards import read_cards
from app.pricing import as_text, read_prices
from scheduler.alerts import Thresholds
from scheduler.policy import MIB
from scheduler.prices import Price, Prices
from scheduler.settings import StoreSettings, TimeZone
from scheduler.windows import read_windows


class FrontEndSettings(StoreSettings):
    """Where the front end listens and what it accepts; see `StoreSettings` for the rest."""

    section: ClassVar[str | None] = "frontend"

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback see trusted_network")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    processes: int = Field(
        1, ge=1, le=256, description="Processes that serve on the port; each adds a core and about 100 MB of memory"
    )
    trusted_network: bool = Field(
        False, description="Serve without authentication beyond loopback: everyone who can reach it is an administrator"
    )
    max_image_bytes: int = Field(20 * MIB, ge=1, description="Largest image upload")
    max_image_pixels: int = Field(40_000_000, ge=4096, description="Largest image, width x height")
    min_free_disk_bytes: int = Field(512 * MIB, ge=0, description="Below this, submissions are answered 507")
    max_wait_seconds: float = Field(60.0, gt=0, description="Longest ?wait= of a poll")
    request_grace_seconds: float = Field(10.0, gt=0, description="How long open requests may take to end at shutdown")
    place_seconds: float = Field(
        1.0, ge=0, description="How old a queued job's place and times may be in the answer to a poll"
    )
    gpu_hour_cost: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="What an hour of a GPU costs, in any currency, where gpu_prices does not say; unset: not known",
    )
    gpu_prices: Annotated[str, BeforeValidator(as_text)] = Field(
        "",
        description="What an hour of some GPUs costs, by id, name or kind, and terms (owned, on_demand, spot): JSON,"
        ' {"NVIDIA L4": {"hour": 0.8, "terms": "spot"}}',
    )
    cards: Annotated[str, BeforeValidator(as_text)] = Field(
        "",
        description="Cards that the advice compares: JSON by name, relative_speed in multiples of the first GPU, price"
        ' of buying and of an hour: {"NVIDIA L4": {"memory_bytes": 24000000000, "price": 2500}}; empty: usual ones',
    )
    energy_kwh_cost: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="What a kilowatt hour costs, in the same currency"
    )
    allow_http_urls: bool = Field(False, description="Allow http:// beside https:// in the URLs that callers name")
    allowed_networks: str = Field(
        "", description="Networks that callers' URLs may lead into though they are not public: CIDRs, comma-separated"
    )
    url_fetch_seconds: float = Field(10.0, gt=0, description="How long an image may take to come from its URL")
    upload_seconds: float = Field(60.0, gt=0, description="How long the body of a submission may take to arrive")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[!-~]+$",
        description="Where callers reach the service, for the URLs in answers and webhooks",
    )
    max_uploads: int = Field(
        64, ge=1, description="Submissions that each process takes in at once; more are answered 503"
    )

    alert_webhook_url: str | None = Field(
        None, pattern=r"^https?://[!-~]+$", description="Where alerts are sent to; unset: nowhere, they are only listed"
    )
    alert_memory: float = Field(0.9, gt=0, description="Share of a GPU's memory in use above which there is an alert")
    alert_overrun: float = Field(2.0, gt=0, description="Likewise, how many times its predicted seconds a job has run")
    alert_waiting: float = Field(0.1, gt=0, description="Likewise, share of the time of jobs that they have waited")
    alert_out_of_memory: float = Field(0.02, ge=0, description="Likewise, share of attempts that ran out of memory")
    alert_worn_workers: int = Field(1, ge=1, description="Replaced workers of a GPU in an hour that make an alert")
    alert_utilization: float = Field(
        0.5, ge=0, description="Share of the time in which a busy, full GPU must compute, or there is an alert"
    )
    alert_full: float = Field(0.8, ge=0, description="Share of its memory above which a GPU is full, for that")
    alert_disk: float = Field(2.0, ge=0, description="Alert below so many times min_free_disk_bytes")
    alert_clear_seconds: float = Field(
        300.0, ge=0, description="How long what an alert tells of must be gone before the alert is over"
    )

    capacity_command: str | None = Field(
        None,
        description="Command that starts and stops GPU machines for the work that is due, by REELQ_CAPACITY_ACTION",
    )
    capacity_webhook_url: str | None = Field(
        None, pattern=r"^https?://[!-~]+$", description="Instead of the command, who is told to start and stop them"
    )
    capacity_max: int = Field(1, ge=1, description="GPUs that there should be at most")
    capacity_min: int = Field(0, ge=0, description="GPUs that there should be in any case")
    capacity_target_seconds: float = Field(
        300.0, gt=0, allow_inf_nan=False, description="What is due should be worked off within so long"
    )
    capacity_cooldown_seconds: float = Field(
        600.0,
        gt=0,
        allow_inf_nan=False,
        description="How long what was started may take to come; then it is asked again",
    )
    capacity_idle_seconds: float = Field(
        600.0, ge=0, allow_inf_nan=False, description="How long fewer GPUs must have been wanted before one is stopped"
    )
    capacity_time_zone: TimeZone = Field("UTC", description="IANA time zone of capacity_windows")
    capacity_windows: str = Field(
        "", description="Cron expressions, separated by ;, in whose minutes work may start GPUs; empty: at any time"
    )
    capacity_timeout_seconds: float = Field(
        60.0, gt=0, le=3600, description="How long the command, or the webhook's answer, may take"
    )

    @field_validator("capacity_command")
    @classmethod
    def _arguments(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("must name a command")
        return value

    @field_validator("capacity_webhook_url")
    @classmethod
    def _one_hook(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("capacity_command") is not None:
            raise ValueError("must be unset where capacity_command is set: one of them is called")
        return value

    @field_validator("capacity_min")
    @classmethod
    def _below_max(cls, value: int, info: ValidationInfo) -> int:
        most = info.data.get("capacity_max", value)
        if value > most:
            raise ValueError(f"must be at most capacity_max, {most}, not {value}")
        return value

    @field_validator("capacity_windows")
    @classmethod
    def _windows(cls, value: str, info: ValidationInfo) -> str:
        if "capacity_time_zone" in info.data:  # or that has been refused
            read_windows(value, info.data["capacity_time_zone"])
        return value

    @field_validator("allowed_networks")
    @classmethod
    def _cidrs(cls, value: str) -> str:
        _networks(value)
        return value

    @field_validator("cards")
    @classmethod
    def _cards(cls, value: str) -> str:
        read_cards(value)
        return value

    @field_validator("gpu_prices")
    @classmethod
    def _prices(cls, value: str) -> str:
        read_prices(value)
        return value

    @cached_property
    def prices(self) -> Prices:
        """What GPUs and energy cost."""
        default = None if self.gpu_hour_cost is None else Price(self.gpu_hour_cost)
        return Prices(default, read_prices(self.gpu_prices), self.energy_kwh_cost)

    @property
    def alert_thresholds(self) -> Thresholds:
        """What there is an alert for."""
        return Thresholds(
            memory=self.alert_memory,
            overrun=self.alert_overrun,
            waiting=self.alert_waiting,
            out_of_memory=self.alert_out_of_memory,
            worn=self.alert_worn_workers,
            utilization=self.alert_utilization,
            full=self.alert_full,
            disk=self.alert_disk,
        )

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """`allowed_networks`, read."""
        return _networks(self.allowed_networks)


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
