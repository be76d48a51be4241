"""The cards of the advice as the settings have them: JSON by name, or a table of a TOML file."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from scheduler.replay import Card

_GIB = 2**30
_LARGEST = 64  # of the table: each card replays all arrivals


class _Card(BaseModel):
    model_config = ConfigDict(extra="forbid")

    memory_bytes: int = Field(gt=0, le=2**50)
    relative_speed: float | None = Field(None, gt=0, allow_inf_nan=False)
    price: float | None = Field(None, ge=0, allow_inf_nan=False)
    hour: float | None = Field(None, ge=0, allow_inf_nan=False)


_CARDS = TypeAdapter(dict[str, _Card])
USUAL = (
    Card("NVIDIA GeForce RTX 4090", 24 * _GIB),
    Card("NVIDIA L40S", 48 * _GIB),
    Card("NVIDIA A100 80GB", 80 * _GIB),
    Card("NVIDIA H100 80GB", 80 * _GIB),
)


def read_cards(text: str) -> Sequence[Card]:
    """Return the cards that a JSON object holds, or some usual ones for an empty text; raises ValueError, one line."""
    if not text.strip():
        return USUAL
    try:
        found = _CARDS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    if len(found) > _LARGEST:
        raise ValueError(f"at most {_LARGEST} cards, not {len(found)}")
    return [Card(name, one.memory_bytes, one.relative_speed, one.price, one.hour) for name, one in found.items()]
