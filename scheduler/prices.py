"""What GPUs and energy cost, as the operator says. Amounts are in any currency, the same for all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_KWH_JOULES = 3_600_000.0


class Terms(StrEnum):
    """How a GPU is paid for."""

    OWNED = "owned"
    ON_DEMAND = "on_demand"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class Price:
    """What an hour of a GPU costs, and on which terms, where they were told."""

    hour: float
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices in force: `gpus` by a GPU's id, name or kind, `default` for all others; None: not known."""

    default: Price | None = None
    gpus: Mapping[str, Price] = field(default_factory=dict)
    energy_kwh: float | None = None

    def of(self, *names: str | None) -> Price | None:
        """Return the price of the GPU that goes by these names; the first of them that has a price decides."""
        found = (self.gpus.get(name) for name in names if name is not None)
        return next((price for price in found if price is not None), self.default)

    def energy(self, joules: float | None) -> float | None:
        """Return what so much energy costs; None where that, or its price, is not known."""
        return None if joules is None or self.energy_kwh is None else kwh(joules) * self.energy_kwh

    def total(self, amounts: Iterable[float | None]) -> float | None:
        """Return the sum of amounts; None where one is not known, or no GPU has a price at all."""
        if self.default is None and not self.gpus:
            return None
        total: float | None = 0.0
        for amount in amounts:
            total = known_sum(total, amount)
        return total


UNPRICED = Prices()


def cost(price: Price | None, seconds: float) -> float | None:
    """Return what so many seconds of a GPU cost; None where the price is not known."""
    return None if price is None else seconds / 3600 * price.hour


def known_sum(one: float | None, other: float | None) -> float | None:
    """Return the sum of two amounts; None where one of them is not known."""
    return None if one is None or other is None else one + other


def kwh(joules: float) -> float:
    """Return joules as kilowatt hours."""
    return joules / _KWH_JOULES
