"""Where output goes: results to stdout, everything about them to stderr; control characters only to a terminal."""

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = (
    "Exit codes: 0 ok; 1 the job failed or was cancelled, or the server refused; 2 wrong usage or settings; "
    "3 the server cannot be reached; 130 interrupted."
)

UNLIMITED_COLUMNS = 500  # into a pipe nothing is cut off


def say(line: str) -> None:
    """Print one line about what happens, to stderr."""
    typer.echo(clean(line), err=True)


def fail(message: str, code: int) -> NoReturn:
    """Print `reelq: message` to stderr and exit with `code`."""
    say(f"reelq: {message}")
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """Print what the API answered: indented on a terminal, one line elsewhere."""
    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def is_terminal(stream: TextIO) -> bool:
    """Tell whether `stream` can show a moving bar."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stream: TextIO) -> "Console":
    """Return a rich console on `stream`: as wide as the terminal or as COLUMNS says, and plain where it is neither."""
    from rich.console import Console

    terminal = is_terminal(stream)
    width = None if terminal or "COLUMNS" in os.environ else UNLIMITED_COLUMNS
    return Console(file=stream, force_terminal=terminal, width=width, highlight=False, markup=False, emoji=False)


def clean(text: object) -> str:
    """Return `text` on one line and without control characters: prompts and errors must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def optional(value: Any, show: Callable[[Any], str], missing: str = "-") -> str:
    """Return `show(value)`, or `missing` for None."""
    return missing if value is None else show(value)
