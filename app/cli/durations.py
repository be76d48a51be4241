"""Durations as people type them: `90`, `90s`, `5m`, `2h`, `1d`."""

import math

import typer

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """Return a duration in seconds; a number without a unit is seconds. Raises typer.BadParameter."""
    number, factor = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        value = float(number) * factor
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{text!r} is no duration: say 90s, 5m, 2h or 1d")
    return value


def with_unit(text: str) -> float:
    """Return a duration in seconds as `seconds` does, of a text that must name its unit."""
    if text[-1:].isdigit():
        raise typer.BadParameter(f"{text!r} has no unit: say {text}s, {text}m, {text}h or {text}d")
    return seconds(text)
