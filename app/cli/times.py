"""Points in time as people type them: counted from now, or in full."""

from datetime import UTC, datetime, timedelta

import typer

from app.cli.durations import seconds


def ahead(text: str, option: str) -> str:
    """Return a time to come as the server takes it: `+2h` counts from now, and a time is left as it is."""
    if not text.startswith("+"):
        if not _is_time(text):
            raise typer.BadParameter(
                f"{text!r} is no time: say 2030-01-31T18:00:00Z, or +2h for two hours from now", param_hint=option
            )
        return text
    try:
        return (datetime.now(UTC) + timedelta(seconds=seconds(text[1:]))).isoformat()
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too far ahead", param_hint=option) from None


def ago(text: str) -> datetime:
    """Return a time that was: `2h` counts back from now, and a time without a zone is this machine's."""
    if _is_time(text):
        return datetime.fromisoformat(text).astimezone(UTC)
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    except typer.BadParameter:
        raise typer.BadParameter(f"{text!r} is no time: say 2h for two hours ago, or 2030-01-31T18:00:00Z") from None
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long ago") from None


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
