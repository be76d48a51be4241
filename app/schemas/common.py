"""What every body is made of."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

_EXACT = 2**53 - 1  # the largest integer that every JSON reader keeps exact
# Each model's own limits are narrower and are checked against it; these only keep numbers exact and finite.
Integer = Annotated[int, Field(ge=-_EXACT, le=_EXACT)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Item = TypeVar("Item")
_MAX_MEMBERS = 100  # far more than any body has; each unknown one would be an error of its own


class Request(BaseModel):
    """A body that must say what it means: no unknown fields, no numbers in quotes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, values: Any) -> Any:
        if isinstance(values, dict) and len(values) > _MAX_MEMBERS:
            raise ValueError(f"must have at most {_MAX_MEMBERS} fields, not {len(values)}")
        return values


class OpenAIError(BaseModel):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None = Field(description="The first field that was refused")
    code: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable; what a program should look at")
    request_id: str | None
    errors: list[dict[str, str]] | None = Field(None, description="`field` and `message` of each refused field")
    limit: float | None = Field(None, description="The limit that was exceeded")
    error: OpenAIError | None = Field(None, description="The same for OpenAI's clients: in /v1/videos and /v1/models")


class Page(BaseModel, Generic[Item]):
    """A list."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool = False
    next_cursor: str | None = None


class Progress(BaseModel):
    """How far a job is; `fraction` is of the whole job, `step` of its denoising `steps`."""

    fraction: float
    step: int
    steps: int
