"""The command about models: models."""

import sys
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.console import clean, console, optional, print_json, say
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.formats import duration, size

_DEEP = " " * 6


class Action(StrEnum):
    """What `reelq models` may be told to do."""

    HOLD = "hold"
    RELEASE = "release"


def models(
    action: Annotated[
        Action | None,
        typer.Argument(
            metavar="hold|release", help="hold: no queued job of MODEL starts, running ones go on; release: they start."
        ),
    ] = None,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="The model to hold or to release.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is held, for whoever asks why its jobs wait.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show the models that workers serve, with their presets; hold or release one instead, where told to.

    A model whose runs fail with numerical errors again and again is held by itself.
    """
    if (action is None) != (model is None):
        raise typer.BadParameter("hold and release need a model", param_hint="MODEL")
    if (action is Action.HOLD) != (reason is not None):
        raise typer.BadParameter("goes with hold, and hold needs it", param_hint="--reason")
    with session(url, api_key, as_json=as_json) as client:
        if model is None:
            answer = client.models()
            found = answer["data"]
        else:
            answer = client.release_model(model) if reason is None else client.hold_model(model, reason)
            found = [answer]
        if as_json:
            print_json(answer)
        elif found:
            show_models(found)
        else:
            say("no model is served; is a worker running?")


def show_models(models: Iterable[Mapping[str, Any]]) -> None:
    """Print each model: what its output is where that is noise, why it is held, its presets, limits and defaults."""
    out = console(sys.stdout)
    for index, model in enumerate(models):
        if index:
            out.print()
        for line in _block(model, out.width):
            out.print(clean(line).rstrip(), soft_wrap=True)


def _block(model: Mapping[str, Any], width: int) -> list[str]:
    head, *presets = _aligned([("preset", "steps", "estimate", "measured"), *map(_preset, model["presets"])], right={1})
    lines = [
        f"{model['id']}  {'random weights: its output is noise' if model['random_weights'] else ''}",
        *([f"  held: {model['held']}"] if model["held"] else []),
        head,
    ]
    for preset, line in zip(model["presets"], presets, strict=True):
        lines += [line, *textwrap.wrap(preset["description"], width, initial_indent=_DEEP, subsequent_indent=_DEEP)]
    names = dict.fromkeys([*model["limits"], *model["defaults"]])
    parameters = [_parameter(name, model["limits"].get(name), model["defaults"].get(name)) for name in names]
    table = [("parameter", "default", "from", "to", "multiple of"), *parameters]
    return [*lines, "", *_aligned(table, right={1, 2, 3, 4})] if parameters else lines


def _preset(preset: Mapping[str, Any]) -> tuple[str, ...]:
    need, took = preset["estimate"], preset["measured"]
    steps = str(preset["defaults"].get("num_inference_steps", ""))
    estimate = f"{duration(need['seconds'])}, {size(need['vram_bytes'])}" if need else "fits no GPU"
    if not took:
        return preset["name"], steps, estimate, "nothing yet"
    peak = optional(took["vram_peak_bytes"], lambda peak_bytes: f", {size(peak_bytes)}", "")
    jobs = f"{took['jobs']} {'job' if took['jobs'] == 1 else 'jobs'}"
    return preset["name"], steps, estimate, f"{duration(took['seconds_p50'])}{peak}, {jobs}"


def _parameter(name: str, limit: Mapping[str, Any] | None, default: Any) -> tuple[str, ...]:
    shown = optional(default, lambda value: str(value).lower() if isinstance(value, bool) else _number(value), "")
    if limit is None:
        return name, shown, "", "", ""
    multiple = "" if limit["multiple_of"] == 1 else str(limit["multiple_of"])
    return name, shown, _number(limit["minimum"]), _number(limit["maximum"]), multiple


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """The rows as indented lines, in columns; those in `right` are aligned there."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
