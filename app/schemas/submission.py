"""What a caller sends: a job, or a question about one."""

from typing import Annotated

from pydantic import Field, WithJsonSchema, field_validator

from app.schemas.common import Integer, Number, Request
from scheduler.params import (
    METADATA_MAX_CHARS,
    METADATA_MAX_KEYS,
    PRIORITY_MAX,
    PRIORITY_MIN,
    PROMPT_MAX_CHARS,
    SEED_MAX,
)
from scheduler.states import Window
from scheduler.webhooks import EVENT_TYPES

RESULT_TTL_MIN_SECONDS = 60
_ID_MAX_CHARS = 80  # more than any id has

# Where forms are described their schema stands alone, with nothing to refer to.
_SPELT_OUT = WithJsonSchema({"type": "string", "enum": [window.value for window in Window]})


class Parameters(Request):
    """What decides how much a job needs, and when it runs. A field left out takes the model's default."""

    model: str | None = Field(None, description="A served model's id; by default the newest")
    negative_prompt: str | None = Field(
        None, description=f"At most {PROMPT_MAX_CHARS} characters", json_schema_extra={"maxLength": PROMPT_MAX_CHARS}
    )
    width: Integer | None = Field(None, description="Pixels; GET /v1/models has the limits")
    height: Integer | None = Field(None, description="Pixels")
    num_frames: Integer | None = None
    num_inference_steps: Integer | None = None
    guidance_scale: Number | None = None
    target_fps: Integer | None = Field(None, description="Frames per second")
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = Field(
        None, description="By default a random one, which the job then names"
    )
    preset: str | None = Field(
        None, description="`standard`, `fast` or `high`; GET /v1/models has them, with what they change and take"
    )
    allow_int8: bool | None = Field(
        None, description="Allow weights in int8 where the job fits no GPU otherwise; they change pixels"
    )
    priority: Number = Field(
        1.0,
        description=f"{PRIORITY_MIN:g} to {PRIORITY_MAX:g}; higher goes first",
        json_schema_extra={"minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX},
    )
    window: Annotated[Window, Field(strict=False), _SPELT_OUT] | None = Field(
        None, description="`off_peak`: it starts only in the cheap window, where one is set here; null: at any time"
    )


class JobFields(Parameters):
    """A job as a multipart form sends it, beside the file `image`."""

    prompt: str = Field(
        description=f"At most {PROMPT_MAX_CHARS} characters",
        json_schema_extra={"maxLength": PROMPT_MAX_CHARS, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
    )
    not_before: str | None = Field(
        None,
        description="The earliest start, as an RFC 3339 time; at most 30 days ahead, and in the past it means at once",
        json_schema_extra={"format": "date-time"},
    )
    deadline: str | None = Field(
        None,
        description="A job that has not ended by this RFC 3339 time fails; at most 30 days ahead",
        json_schema_extra={"format": "date-time"},
    )
    result_ttl_seconds: Number | None = Field(
        None,
        description=f"How long the video is kept after the job's end: from {RESULT_TTL_MIN_SECONDS} seconds to what is "
        "the rule here, which is the default",
    )
    webhook_url: str | None = Field(
        None, description="An https URL that is told of the job's events", json_schema_extra={"format": "uri"}
    )
    webhook_events: list[str] | None = Field(
        None,
        description=f"What it is told of: {', '.join(EVENT_TYPES)}; by default the job's end. In a form, a JSON list",
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        description=f"Yours: at most {METADATA_MAX_KEYS} keys, of {METADATA_MAX_CHARS} characters; in a form, JSON",
        json_schema_extra={"maxProperties": METADATA_MAX_KEYS},
    )


class JobRequest(JobFields):
    """A job as JSON."""

    image: str = Field(description="A data URI, `data:image/png;base64,…`, or an https URL; PNG, JPEG or WebP")


class JobsRequest(Request):
    """Several jobs."""

    ids: Annotated[
        list[Annotated[str, Field(max_length=_ID_MAX_CHARS)]],
        Field(min_length=1, max_length=100, json_schema_extra={"uniqueItems": True}),
    ] = Field(description="Their ids, each once")

    @field_validator("ids")
    @classmethod
    def _once_each(cls, ids: list[str]) -> list[str]:
        if len(set(ids)) < len(ids):
            raise ValueError("must name each job once")
        return ids


class EstimateRequest(Parameters):
    """A job without its image."""

    prompt: str | None = Field(
        None, description="Changes nothing; allowed so that a job's fields can be sent as they are"
    )
