"""From a template and its values to an answer."""

import hashlib
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.types import Scope

from app import formats
from app.dashboard import pages, wording
from app.dashboard.assets import static
from app.door import Principal
from app.ranges import none_match
from scheduler.keys import Scope as Permission

AT_ONCE_SECONDS = 0.05  # the refresh of a page that was sent without what takes long
LONG_SECONDS = 0.3  # what takes no longer is waited for
HEADERS = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Vary": "Accept, Cookie",
}


def render(
    request: Request, caller: Principal, template: str, *, title: str, refresh_seconds: float = 0, **values: Any
) -> Response:
    """Return a page. Its reader's browser asks for it anew after `refresh_seconds`; 0: never.

    Where it is what the browser has already (If-None-Match) the answer is an empty 304.
    """
    here = pages.at(request.url.path)
    body = _environment.get_template(template).render(
        title=title,
        here=here,
        pages=[page for page in pages.PAGES if page.scope in caller.scopes],
        viewer=caller,
        signed_in=caller.key_id is not None,
        can_submit=Permission.SUBMIT in caller.scopes,
        is_admin=caller.is_admin,
        refresh_seconds=refresh_seconds,
        **values,
    )
    encoded = body.encode()
    tag = f'W/"{hashlib.sha256(encoded).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}
    if not none_match(request.headers.get("If-None-Match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(encoded, media_type="text/html", headers=headers)


def may_wait(request: Request) -> bool:
    """Whether it is a page's own script that asks: there is something to look at meanwhile.

    A page whose values take long is sent without them, to be asked for anew at once. A browser that does not say what
    it asks for gets all of it.
    """
    return request.headers.get("Sec-Fetch-Dest") != "document"


def bare(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:
    """Return a page for somebody who may not have signed in."""
    body = _environment.get_template(template).render(status=status, **values)
    return Response(body, status, {**HEADERS, **(headers or {})}, media_type="text/html")


def error_page(scope: Scope, status: int, title: str, detail: str, headers: dict[str, str]) -> Response:
    """Return a problem as a page."""
    request_id = scope.get("state", {}).get("request_id")
    return bare("error.html", status, headers, title=title, detail=detail, request_id=request_id)


def _environment_made() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"static": static, "sign_in": pages.SIGN_IN, "sign_out": pages.SIGN_OUT}
    made.filters |= {
        "size": lambda number: wording.UNKNOWN if number is None else formats.size(number),
        "money": lambda amount: wording.UNKNOWN if amount is None else formats.money(amount),
        "percent": lambda fraction: wording.UNKNOWN if fraction is None else formats.percent(fraction),
        "duration": wording.short,
        "when": wording.when,
        "ago": wording.ago,
        "iso": wording.iso,
        "count": wording.count,
        "plural": wording.plural,
    }
    return made


_environment = _environment_made()
