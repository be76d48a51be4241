"""What the commands that talk to a server share: their options, and how the client's errors end them."""

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
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="REELQ_API_KEY",
        metavar="KEY",
        help="The API key; in the variable, others on this machine do not see it.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON, and nothing else, on stdout.")]


@contextmanager
def session(url: str, api_key: str | None = None, *, as_json: bool) -> Iterator["Client"]:
    """Give a client of `url`; its errors end the command with one line and the exit code that --help promises."""
    from app.client import Client

    with errors_end(as_json=as_json):
        try:
            client = Client(url, api_key=api_key)
        except ValueError as error:
            fail(f"--url: {error}", USAGE)
        with client:
            yield client


@contextmanager
def errors_end(*, as_json: bool) -> Iterator[None]:
    """Let the client's errors end the command, as `session` does."""
    from app.client import ApiError, ClientError, ServerUnreachable

    try:
        yield
    except ServerUnreachable as error:
        fail(str(error), UNREACHABLE)
    except ApiError as error:
        if as_json:
            print_json(error.problem)
        fail(str(error), FAILED)
    except (ClientError, OSError) as error:
        fail(str(error), FAILED)
