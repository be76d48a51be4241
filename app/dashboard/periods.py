"""The time that a report is of, as its reader chooses it: whole days, which are UTC's."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

CHOICES: Mapping[str, str] = {
    "today": "Today",
    "7d": "7 days",
    "30d": "30 days",
    "month": "This month",
    "custom": "From … to …",
}
_END = date(9999, 1, 1)
_DAYS = {"today": 1, "7d": 7, "30d": 30}


@dataclass(frozen=True, slots=True)
class Period:
    """What was chosen: from the beginning of the day `first` to the end of `last`. `problem` is why it is not as asked.

    `since` and `until` are seconds since 1970; None: until now.
    """

    choice: str
    first: date
    last: date
    until: float | None = None
    problem: str | None = None

    @property
    def since(self) -> float:
        """When it begins."""
        return _midnight(self.first)


def choose(choice: str, first: str, last: str, now: float, usual: str = "30d") -> Period:
    """Return the period of a choice; `first` and `last` are the days, `YYYY-MM-DD`, of the choice `custom`.

    What cannot be understood is `usual`, one of today, 7d, 30d and month, with the problem.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    if choice == "month":
        return Period(choice, today.replace(day=1), today)
    if choice in _DAYS:
        return Period(choice, today - timedelta(days=_DAYS[choice] - 1), today)
    problem = f"There is no period {choice[:40]!r}."
    if choice == "custom":
        try:
            days = date.fromisoformat(first), date.fromisoformat(last)
        except ValueError:
            problem = "The first and the last day must be given, such as 2030-01-31."
        else:
            if days[0] <= days[1] < _END:
                return Period(choice, *days, until=_midnight(days[1] + timedelta(days=1)))
            problem = "The first day must not be after the last, which must be before the year 9999."
    instead = choose(usual, "", "", now)
    return Period(instead.choice, instead.first, instead.last, problem=f"{problem} Shown: {CHOICES[instead.choice]}.")


def _midnight(day: date) -> float:
    return datetime.combine(day, time.min, UTC).timestamp()
