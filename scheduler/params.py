"""A job's generation parameters and the limits a model sets on them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from scheduler.errors import InvalidParameter

PROMPT_MAX_CHARS = 4000
METADATA_MAX_KEYS = 16
METADATA_MAX_CHARS = 512
PRIORITY_MIN, PRIORITY_MAX = 0.01, 100.0
SEED_MAX = 2**32 - 1  # torch's CPU generator uses 32 bits

STANDARD = "standard"  # every step computed in full
FAST = "fast"  # attention outputs are reused over neighbouring steps: an approximation
HIGH = "high"  # as standard, with more steps
PRESETS = (STANDARD, FAST, HIGH)


@dataclass(frozen=True, slots=True)
class VideoParams:
    """What to generate, in diffusers' words. `width` and `height` in pixels, `target_fps` in frames per second.

    `preset` names an approximation, more steps, or neither; `allow_int8` lets the job run with int8 weights where
    nothing else fits. Both change pixels, and so are the caller's choice.
    """

    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    target_fps: int
    seed: int
    negative_prompt: str | None = None
    preset: str = STANDARD
    allow_int8: bool = False

    @property
    def guided(self) -> bool:
        """Whether each step runs both halves, without the prompt and with it."""
        return self.guidance_scale > 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build parameters from what `to_dict` returned; unknown keys of a later version are dropped."""
        return cls(**{key: value for key, value in values.items() if key in _NAMES})


_NAMES = tuple(field.name for field in fields(VideoParams))


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range; integers may also have to be divisible by `multiple_of`."""

    minimum: float
    maximum: float
    multiple_of: int = 1

    def check(self, field: str, value: float) -> None:
        """Raise `InvalidParameter` naming `field` and the limit unless `value` is inside."""
        if not self.minimum <= value <= self.maximum:  # also refuses NaN
            raise InvalidParameter(
                field, f"must be from {_exact(self.minimum)} to {_exact(self.maximum)}, not {_exact(value)}"
            )
        if self.multiple_of > 1 and value % self.multiple_of:
            raise InvalidParameter(field, f"must be divisible by {self.multiple_of}, not {_exact(value)}")


def _exact(number: float) -> str:
    """Format a limit without rounding it: 4294967295, 0.01, nan."""
    return str(int(number)) if float(number).is_integer() else str(number)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model accepts, field by field."""

    width: Range
    height: Range
    num_frames: Range
    num_inference_steps: Range
    guidance_scale: Range
    target_fps: Range
    seed: Range = Range(0, SEED_MAX)

    def check(self, params: VideoParams) -> None:
        """Raise `InvalidParameter` for the first field of `params` outside its range."""
        for field in fields(self):
            limit: Range = getattr(self, field.name)
            limit.check(field.name, getattr(params, field.name))
        check_text("negative_prompt", params.negative_prompt or "")
        if params.preset not in PRESETS:
            raise InvalidParameter("preset", f"must be one of {', '.join(PRESETS)}, not {params.preset[:80]!r}")


def check_text(field: str, text: str, *, required: bool = False, max_chars: int = PROMPT_MAX_CHARS) -> None:
    """Raise `InvalidParameter` unless `text` is storable and at most `max_chars` long."""
    if required and not text.strip():
        raise InvalidParameter(field, "must not be empty")
    if len(text) > max_chars:
        raise InvalidParameter(field, f"must be at most {max_chars} characters, not {len(text)}")
    if "\x00" in text:  # PostgreSQL stores no NUL
        raise InvalidParameter(field, "must not contain NUL characters")
    if any("\ud800" <= char <= "\udfff" for char in text):  # lone surrogates are not UTF-8
        raise InvalidParameter(field, "must be valid Unicode text")


PRIORITIES = Range(PRIORITY_MIN, PRIORITY_MAX)


def check_priority(priority: float) -> None:
    """Raise `InvalidParameter` unless `priority` is inside its range."""
    PRIORITIES.check("priority", priority)


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise `InvalidParameter` unless `metadata` is small: few keys, short strings."""
    if len(metadata) > METADATA_MAX_KEYS:
        raise InvalidParameter("metadata", f"must have at most {METADATA_MAX_KEYS} keys, not {len(metadata)}")
    for key, value in metadata.items():
        for text in (key, value):
            check_text("metadata", text, max_chars=METADATA_MAX_CHARS)
