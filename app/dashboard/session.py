"""The session that a browser's request belongs to, and the way to one."""

from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Scope

from app.dashboard.pages import SIGN_IN
from app.headers import header, headers

COOKIE = "reelq_session"
_IN_URLS = "/?#[]@!$&'()*+,;=:%"  # what a header may have of a path and its query as it is


def session_of(scope: Scope) -> str | None:
    """Return the token of the session that a request belongs to; None where it says none."""
    for line in headers(scope, b"cookie"):
        for one in line.split(";"):
            name, _, value = one.strip().partition("=")
            if name == COOKIE:
                return value
    return None


def to_sign_in(scope: Scope) -> Response:
    """Return an answer that leads a browser to sign in, and then back to where it wanted to go."""
    query = scope["query_string"].decode("latin-1")
    wanted = quote(scope["path"], errors="replace") + (f"?{query}" if query else "")
    return to(f"{SIGN_IN}?next={quote(wanted, safe='')}")


def by_session(scope: Scope) -> bool:
    """Whether a request is let in by what its browser sends along by itself."""
    return header(scope, b"authorization") is None and session_of(scope) is not None


def to(path: str) -> Response:
    """Return an answer that leads on to a path."""
    return Response(status_code=303, headers={"Location": quote(path, safe=_IN_URLS)})
