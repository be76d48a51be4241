"""The prices of GPUs as the settings have them: JSON by a GPU's id, name or kind, or a table of a TOML file."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from scheduler.prices import Price, Terms


class _Price(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hour: float = Field(ge=0, allow_inf_nan=False)
    terms: Terms | None = None


_PRICES = TypeAdapter(dict[str, _Price])


def read_prices(text: str) -> Mapping[str, Price]:
    """Return the prices that a JSON object holds; there are none in an empty text. Raises ValueError with one line."""
    if not text.strip():
        return {}
    try:
        found = _PRICES.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    return {name: Price(one.hour, one.terms) for name, one in found.items()}


def as_text(value: Any) -> Any:
    """Return a table of a TOML file as the text that it would be in the environment, where a child process reads it."""
    return json.dumps(value) if isinstance(value, dict) else value
