"""The calibration file: what one kind of GPU was measured to need, in JSON, to be carried to other installations."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scheduler.learning import Observation
from scheduler.plans import PLANS
from scheduler.shape import Shape
from scheduler.states import Source

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Bytes = Annotated[int, Field(gt=0, lt=2**50)]
_Seconds = Annotated[float, Field(gt=0, lt=1e6, allow_inf_nan=False)]


class CalibrationError(ValueError):
    """The calibration file cannot be read, or is none; `str()` is one line."""


class Measurement(BaseModel):
    """One plan and shape: the peak beside the resident weights, or what n steps took: `fixed + n * step` seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str
    shape: str
    working_peak_bytes: _Bytes | None = None
    step_seconds: _Seconds | None = None
    fixed_seconds: _Seconds | None = None

    @field_validator("plan")
    @classmethod
    def _known_plan(cls, value: str) -> str:
        if value not in PLANS:
            raise ValueError(f"must be one of {', '.join(PLANS)}")
        return value

    @field_validator("shape")
    @classmethod
    def _readable_shape(cls, value: str) -> str:
        if Shape.parse(value).key != value:
            raise ValueError("must be a shape such as 512x512x16")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.step_seconds is None) != (self.fixed_seconds is None):
            raise ValueError("step_seconds and fixed_seconds go together")
        if self.working_peak_bytes is None and self.step_seconds is None:
            raise ValueError("neither bytes nor seconds are given")
        return self


class Calibration(BaseModel):
    """What was measured of `model` (`fingerprint`: which weights) on a GPU of `gpu_kind`, with what `software`.

    `measured_at` is in seconds since 1970. `format` counts up when older versions could not read the file any more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    gpu_kind: _Name
    model: _Name
    fingerprint: str
    measured_at: float = Field(ge=0, allow_inf_nan=False)
    software: dict[str, str] = Field(default_factory=dict)
    measurements: tuple[Measurement, ...] = Field(min_length=1, max_length=10_000)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file; raises `CalibrationError` naming it and what is wrong."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CalibrationError(f"cannot read the calibration {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise CalibrationError(f"{path} is no calibration of format 1: {where}: {first['msg']}") from error

    def write(self, path: Path) -> None:
        """Put the file at `path`, whole or not at all; raises OSError."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(self.model_dump_json(indent=2, exclude_none=True) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def observations(self) -> list[Observation]:
        """Return what was measured as the scheduler learns it."""
        return [
            Observation(
                source=Source.CALIBRATION,
                gpu_kind=self.gpu_kind,
                model=self.model,
                plan=each.plan,
                shape_key=each.shape,
                working_peak_bytes=each.working_peak_bytes,
                step_seconds=each.step_seconds,
                fixed_seconds=each.fixed_seconds,
            )
            for each in self.measurements
        ]
