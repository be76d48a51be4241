"""Alerts: what operators are told of."""

from typing import Literal

from pydantic import BaseModel, Field

from scheduler.alerts import Kind, Rule, Severity


class Alert(BaseModel):
    """Something that an operator should look at, or should have.

    It fires once its condition has lasted, and is resolved once that has not been there for a while.
    """

    id: str
    object: Literal["alert"] = "alert"
    rule: Rule
    severity: Severity
    status: Literal["firing", "resolved"]
    kind: Kind = Field(description="What it is about")
    subject: str = Field(
        description="Which one: the id of a GPU, a job or a call for capacity, `queue`, or a disk as `HOST/NAME`"
    )
    message: str = Field(description="What is wrong, in words and numbers, as it was last seen")
    value: float = Field(description="What was seen last")
    threshold: float = Field(description="What it is beyond")
    since: str = Field(description="When the condition came")
    fired_at: str
    resolved_at: str | None


class AlertPayload(BaseModel):
    """What the operator's webhook receives, in the form and with the signature of Standard Webhooks.

    The header `webhook-id` is the delivery's id, the same in each try: a receiver that has seen it need do nothing.
    """

    type: Literal["alert.firing", "alert.resolved"]
    timestamp: str = Field(description="When it happened")
    data: Alert
