"""Which pages there are, who may see them, and who asks for one."""

from dataclasses import dataclass

from starlette.types import Scope as ASGIScope

from app.headers import header
from scheduler.keys import Scope


@dataclass(frozen=True, slots=True)
class Page:
    """A view: its name, its path, the scope that it takes, and the key that leads there after `g`."""

    name: str
    path: str
    scope: Scope
    shortcut: str


PAGES = (
    Page("Overview", "/", Scope.READ, "o"),
    Page("Jobs", "/jobs", Scope.READ, "j"),
    Page("Submit", "/submit", Scope.SUBMIT, "s"),
    Page("Timeline", "/timeline", Scope.ADMIN, "t"),
    Page("GPUs", "/gpus", Scope.ADMIN, "g"),
    Page("Advice", "/advice", Scope.ADMIN, "a"),
    Page("Costs", "/costs", Scope.ADMIN, "c"),
)
SIGN_IN, SIGN_OUT, STATIC = "/sign-in", "/sign-out", "/static/"
_BY_PATH = {page.path: page for page in PAGES}
_MACHINES = frozenset({"metrics", "healthz", "readyz", "openapi.json", "v1"})  # never answered with a page


def at(path: str) -> Page | None:
    """Return the page that a path belongs to; None where it belongs to none."""
    return _BY_PATH.get("/" + path[1:].partition("/")[0])


def is_open(path: str) -> bool:
    """Whether a path is there for those too who have not signed in."""
    return path in (SIGN_IN, SIGN_OUT) or path.startswith(STATIC)


def wanted(scope: ASGIScope) -> bool:
    """Whether the request of this ASGI scope is a browser's for a page, errors included; so is a form of a page."""
    is_form = scope.get("method") == "POST" and scope["path"] in (SIGN_IN, SIGN_OUT)
    is_look = scope.get("method") in ("GET", "HEAD")
    if not (is_look or is_form) or scope["path"][1:].partition("/")[0] in _MACHINES:
        return False
    return "text/html" in (header(scope, b"accept") or "")
