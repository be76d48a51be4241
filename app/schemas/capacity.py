"""Capacity: how many GPUs there should be, and the calls of the hook that starts and stops them."""

from typing import Literal

from pydantic import BaseModel, Field

from scheduler.calls import CallEvent, CallStatus
from scheduler.states import CapacityAction


class CapacityCall(BaseModel):
    """A call of the hook. It is repeated with the same `id` until it has succeeded, or is no longer wanted."""

    id: str
    object: Literal["capacity_call"] = "capacity_call"
    action: CapacityAction
    status: CallStatus
    count: int = Field(description="GPUs that are to be started, or that the host has which is to be stopped")
    host: str | None = Field(description="The host to stop")
    gpus: list[str] = Field(description="Its GPUs, which are drained")
    wanted: int
    online: int
    reason: str
    asked_at: str
    tries: int
    next_try_at: str | None
    done_at: str | None
    error: str | None = Field(description="Why the last try has failed")


class CapacityStatus(BaseModel):
    """How many GPUs in service there should be, and are; `wanted` is null before the first look."""

    object: Literal["capacity"] = "capacity"
    enabled: bool = Field(description="Whether there is a command or a webhook that starts and stops GPUs")
    minimum: int
    maximum: int
    wanted: int | None
    online: int | None = Field(description="GPUs in service at the last look: online, neither drained nor faulted")
    reason: str | None = Field(description="Why so many are wanted")
    since: str | None = Field(description="When the number wanted last changed")
    looked_at: str | None
    cooldown_until: str | None = Field(description="Until when what was started is waited for; null where nothing is")
    calls: list[CapacityCall] = Field(description="The last calls, the newest first")


class CapacityPayload(BaseModel):
    """What the webhook for capacity receives, in the form and with the signature of Standard Webhooks.

    The header `webhook-id` is the call's id, the same in each try: a receiver that has seen it need do nothing.
    """

    type: CallEvent
    timestamp: str = Field(description="When it was sent")
    data: CapacityCall
