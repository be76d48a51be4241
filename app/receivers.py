"""The section `webhooks` of the document: what receivers are sent, and what their answers mean."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app import examples
from app.schemas import AlertPayload, WebhookPayload

_SCHEMAS = "#/components/schemas/"
_JSON = "application/json"
_HEADERS = {
    "webhook-id": "The delivery's id, the same in each try: a receiver that has seen it need do nothing",
    "webhook-timestamp": "When this try was made, in seconds since 1970",
    "webhook-signature": "For each secret in force `v1,` and the base64 of an HMAC-SHA256 of `ID.TIMESTAMP.BODY`",
}
_ANSWERS = {
    "2XX": "Received: it is not sent again",
    "410": "Its receiver is gone: nothing is sent there until the endpoint is enabled again",
    "429": "To be sent again, not before `Retry-After`",
    "503": "To be sent again, not before `Retry-After`",
    "default": "To be sent again later, for about three days; redirects are not followed",
}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of request: its operation, and what is sent."""

    name: str
    tag: str
    summary: str
    description: str
    payload: type[BaseModel]


_KINDS = {
    "job": _Kind(
        "receive_job_event",
        "webhooks",
        "What happens to a job",
        "Sent to the job's `webhook_url`, and signed with the tenant's secret (`GET /v1/webhooks/secret`).",
        WebhookPayload,
    ),
    "alert": _Kind(
        "receive_alert",
        "admin",
        "An alert fires, or is over",
        "Sent where `alert_webhook_url` says, and signed with the operator's secret (`GET /v1/admin/alerts/secret`).",
        AlertPayload,
    ),
}


def webhooks(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the section, and add to `schemas` those of the payloads that are not there yet."""
    _, made = models_json_schema(
        [(kind.payload, "serialization") for kind in _KINDS.values()], ref_template=_SCHEMAS + "{model}"
    )
    for name, schema in made["$defs"].items():
        schemas.setdefault(name, schema)
    return {name: {"post": _operation(kind)} for name, kind in _KINDS.items()}


def _operation(kind: _Kind) -> dict[str, Any]:
    found = examples.of_body(kind.name, _JSON)
    content = {
        "schema": {"$ref": f"{_SCHEMAS}{kind.payload.__name__}"},
        "examples": {title: {"value": one} for title, one in found.items()},
    }
    return {
        "operationId": kind.name,
        "tags": [kind.tag],
        "summary": kind.summary,
        "description": kind.description,
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {_JSON: content}},
        "responses": {status: {"description": text} for status, text in _ANSWERS.items()},
    }
