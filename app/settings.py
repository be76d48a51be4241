"""The front end's settings."""

from typing import ClassVar

from pydantic import Field

from scheduler.policy import MIB
from scheduler.settings import StoreSettings


class FrontEndSettings(StoreSettings):
    """Where the front end listens and what it accepts; see `StoreSettings` for the rest."""

    section: ClassVar[str | None] = "frontend"

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback see trusted_network")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    trusted_network: bool = Field(
        False, description="Serve without authentication beyond loopback: everyone who can reach it is an administrator"
    )
    max_image_bytes: int = Field(20 * MIB, ge=1, description="Largest image upload")
    max_image_pixels: int = Field(40_000_000, ge=4096, description="Largest image, width x height")
    min_free_disk_bytes: int = Field(512 * MIB, ge=0, description="Below this, submissions are answered 507")
    max_wait_seconds: float = Field(60.0, gt=0, description="Longest ?wait= of a poll")
    request_grace_seconds: float = Field(10.0, gt=0, description="How long open requests may take to end at shutdown")
