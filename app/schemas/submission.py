"""What a caller sends: a job, or a question about one."""

from pydantic import Field

from app.schemas.common import Integer, Number, Request
from scheduler.params import PRIORITY_MAX, PRIORITY_MIN, PROMPT_MAX_CHARS


class Parameters(Request):
    """What decides how much a job needs. A field left out takes the model's default."""

    model: str | None = Field(None, description="A served model's id; by default the newest")
    negative_prompt: str | None = Field(None, description=f"At most {PROMPT_MAX_CHARS} characters")
    width: Integer | None = Field(None, description="Pixels; GET /v1/models has the limits")
    height: Integer | None = Field(None, description="Pixels")
    num_frames: Integer | None = None
    num_inference_steps: Integer | None = None
    guidance_scale: Number | None = None
    target_fps: Integer | None = Field(None, description="Frames per second")
    seed: Integer | None = Field(None, description="By default a random one, which the job then names")
    preset: str | None = Field(
        None, description="An approximation that is faster, by its name; GET /v1/models has them, with what they change"
    )
    allow_int8: bool | None = Field(
        None, description="Allow weights in int8 where the job fits no GPU otherwise; they change pixels"
    )
    priority: Number = Field(1.0, description=f"{PRIORITY_MIN:g} to {PRIORITY_MAX:g}; higher goes first")


class JobFields(Parameters):
    """A job as a multipart form sends it, beside the file `image`."""

    prompt: str = Field(description=f"At most {PROMPT_MAX_CHARS} characters")
    not_before: str | None = Field(
        None,
        description="The earliest start, as an RFC 3339 time; at most 30 days ahead, and in the past it means at once",
        json_schema_extra={"format": "date-time"},
    )
    metadata: dict[str, str] = Field(default_factory=dict, description="Yours; in a form, a JSON object")


class JobRequest(JobFields):
    """A job as JSON."""

    image: str = Field(description="A data URI: `data:image/png;base64,…`; PNG, JPEG or WebP")


class EstimateRequest(Parameters):
    """A job without its image."""

    prompt: str | None = Field(
        None, description="Changes nothing; allowed so that a job's fields can be sent as they are"
    )
