"""The headers of a request, as the server hands them over: each is looked for several times on every request's way."""

from collections.abc import Iterator

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header called `name`, which must be in lower case; None where there is none."""
    return next(headers(scope, name), None)


def headers(scope: Scope, name: bytes) -> Iterator[str]:
    """Yield each header called `name`, which must be in lower case, in their order."""
    for key, value in scope["headers"]:
        if key == name:
            yield value.decode("latin-1")
