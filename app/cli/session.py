"""What the commands that talk to a server share: their options, and how the client's errors end them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import FAILED, UNREACHABLE, USAGE, fail, print_json

if TYPE_CHECKING:
    from app.client import Client

# app.client.DEFAULT_URL, spelled again because importing it imports httpx.
Url = Annotated[
    str, typer.Option("--url", envvar="REELQ_URL", help="The server. A key for it comes from REELQ_API_KEY.")
]
DEFAULT_URL = "http://127.0.0.1:8000"
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON, and nothing else, on stdout.")]


@contextmanager
def session(url: str, *, as_json: bool) -> Iterator["Client"]:
    """Give a client of `url`; its errors end the command with one line and the exit code that --help promises."""
    from app.client import ApiError, Client, ClientError, ServerUnreachable

    try:
        client = Client(url, api_key=os.environ.get("REELQ_API_KEY"))
    except ValueError as error:
        fail(f"--url: {error}", USAGE)
    try:
        with client:
            yield client
    except ServerUnreachable as error:
        fail(str(error), UNREACHABLE)
    except ApiError as error:
        if as_json:
            print_json(error.problem)
        fail(str(error), FAILED)
    except (ClientError, OSError) as error:
        fail(str(error), FAILED)
