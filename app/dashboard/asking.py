"""What a reader wants advice for: a time, the growth that they expect, and the price of a card."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.advice import parse_growth
from scheduler.advice import Growth, Payback
from scheduler.errors import InvalidParameter
from scheduler.evidence import Recorded

WINDOWS = {"1d": "Last day", "7d": "Last 7 days", "30d": "Last 30 days", "90d": "Last 90 days"}
USUAL = "7d"
MEASURED = "measured"
_GROWTHS = {
    MEASURED: "as measured",
    "low": "low",
    "high": "high",
    "0.1": "+10% a month",
    "0.2": "+20% a month",
    "0.5": "+50% a month",
    "1": "+100% a month",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form asks: `growth` is None for the measured trend. `problems` tell what could not be understood."""

    window: str
    growth_text: str
    price_text: str
    growth: Growth | None
    card_price: float | None
    problems: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the window is."""
        return int(self.window.removesuffix("d")) * 86_400.0

    @property
    def growths(self) -> Mapping[str, str]:
        """The growths to choose from, that of the reader among them."""
        if self.growth is None or self.growth.monthly is None or self.growth_text in _GROWTHS:
            return _GROWTHS
        return {self.growth_text: f"{self.growth.monthly * 100:+.4g}% a month"} | _GROWTHS

    def apply(self, recorded: Recorded) -> Recorded:
        """Return a record with what the reader expects in the place of what was measured."""
        evidence = recorded.evidence
        if self.growth is not None:
            evidence = replace(evidence, growth=self.growth)
        if self.card_price is not None:
            evidence = replace(evidence, payback=Payback(self.card_price, recorded.saved_month))
        return replace(recorded, evidence=evidence)


def read(window: str, growth: str, card_price: str) -> Asked:
    """Return what the texts of the form ask; what cannot be understood is as usual, with the problem."""
    problems, expected, price = [], None, None
    if window not in WINDOWS:
        problems.append(f"There is no window {window[:40]!r}. Shown: {WINDOWS[USUAL]}.")
        window = USUAL
    growth = growth or MEASURED
    try:
        expected = None if growth == MEASURED else parse_growth(growth)
    except InvalidParameter as error:
        problems.append(f"{error}. Shown: the measured trend.")
        growth = MEASURED
    if card_price:
        price = _price(card_price)
        if price is None:
            problems.append(f"The price of a card must be a number from 0 on, not {card_price[:40]!r}.")
            card_price = ""
    return Asked(window, growth, card_price, expected, price, tuple(problems))


def _price(text: str) -> float | None:
    try:
        price = float(text)
    except ValueError:
        return None
    return price if 0 <= price < math.inf else None
