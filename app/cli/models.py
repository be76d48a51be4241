"""The command about models: models."""

import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.console import clean, console, print_json, say
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session


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
    """Print each model: what its output is where that is noise, why it is held, and its presets."""
    out = console(sys.stdout)
    for index, model in enumerate(models):
        if index:
            out.print()
        for line in _block(model):
            out.print(clean(line).rstrip(), soft_wrap=True)


def _block(model: Mapping[str, Any]) -> list[str]:
    presets = [f"{preset['name']}: {preset['description']}" for preset in model["presets"]]
    return [
        f"{model['id']}  {'random weights: its output is noise' if model['random_weights'] else ''}",
        *([f"  held    {model['held']}"] if model["held"] else []),
        *(f"  {'' if index else 'presets':<7} {preset}" for index, preset in enumerate(presets)),
    ]
