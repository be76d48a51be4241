"""`--set name=value` and `--metadata key=value`: parameters as the command line has them, typed as the server's are."""

import json
import math
from collections.abc import Iterable
from typing import Any, get_type_hints

import typer

_TEXT = frozenset({"model", "webhook_url", "not_before", "window", "deadline"})
_NUMBERS = {"priority": float}
_JSON = frozenset({"metadata"})
_TRUTH = {"true": True, "1": True, "false": False, "0": False}  # as a form spells it


def parse(settings: Iterable[str]) -> dict[str, Any]:
    """Return `name=value` strings as parameters; a name this version does not know is left for the server to judge.

    Raises typer.BadParameter, which exits 2, for what has no `=` or is no number where one belongs.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise typer.BadParameter(f"{setting!r} is not name=value", param_hint="--set")
        found[name] = _value(name, text)
    return found


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Return `key=value` strings as metadata, text to text; raises typer.BadParameter for what has no `=`."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not key=value", param_hint="--metadata")
        found[key] = value
    return found


def _value(name: str, text: str) -> Any:
    from scheduler.params import VideoParams

    kind = {**get_type_hints(VideoParams), **_NUMBERS}.get(name)
    if kind is bool:
        return _boolean(name, text)
    if kind in (int, float):
        return _number(name, text, kind)
    if name in _JSON:
        return _object(name, text)
    if kind is not None or name in _TEXT:
        return text
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        wanted = "a whole number" if kind is int else "a number"
        raise typer.BadParameter(f"{name} must be {wanted}, not {text!r}", param_hint="--set")
    return value


def _boolean(name: str, text: str) -> bool:
    if text not in _TRUTH:
        raise typer.BadParameter(f"{name} must be true or false, not {text!r}", param_hint="--set")
    return _TRUTH[text]


def _object(name: str, text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{name} must be a JSON object, not {text!r}", param_hint="--set")
    return value
