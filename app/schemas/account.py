"""What a caller may ask about itself."""

from typing import Literal

from pydantic import BaseModel, Field

from scheduler.keys import Scope


class AccountKey(BaseModel):
    """The API key of the request."""

    id: str
    name: str
    scopes: list[Scope]


class AccountLimits(BaseModel):
    """What the tenant may do; null: it has no limit of its own."""

    share: float | None = Field(
        description="Of the fleet, in relation to other tenants' shares; null: its jobs stand in line as they came"
    )
    max_queued: int | None
    max_running: int | None
    max_priority: float | None
    submits_per_minute: int | None
    requests_per_minute: int | None


class AccountUsage(BaseModel):
    """The tenant's jobs that have not ended."""

    queued: int
    running: int


class Account(BaseModel):
    """The tenant that the caller acts for."""

    object: Literal["account"] = "account"
    tenant: str
    key: AccountKey | None = Field(description="Null where the service is open, because no key was ever made")
    limits: AccountLimits
    usage: AccountUsage
