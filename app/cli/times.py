"""Points in time as people type them: counted from now, or in full."""

from datetime import UTC, datetime, timedelta

import typer

from app.cli.durations import seconds


def ahead(text: str, option: str) -> str:
    """Return a time to come as the server takes it: `+2h` counts from now, and a time is left as it is."""
    if not text.startswith("+"):
        return text
    try:
        return (datetime.now(UTC) + timedelta(seconds=seconds(text[1:]))).isoformat()
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too far ahead", param_hint=option) from None


def ago(text: str) -> datetime:
    """Return a time that was: `2h` counts back from now, and a time without a zone is this machine's."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        pass
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long ago") from None
