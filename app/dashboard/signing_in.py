"""Signing in with a key, once for a browser, and out again."""

import asyncio
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request, Response

from app.context import Context, Shared
from app.dashboard.pages import SIGN_IN, SIGN_OUT
from app.dashboard.rendering import bare
from app.dashboard.session import COOKIE, session_of, to
from scheduler.sessions import SESSION_SECONDS

_WANTED_MAX_CHARS = 2000

router = APIRouter(include_in_schema=False)


@router.get(SIGN_IN)
async def get_sign_in(context: Shared, next: str = "/") -> Response:  # noqa: A002  as in the URL
    """Return the form; a service without keys lets everybody in."""
    await context.door.look()
    if not context.door.closed:
        return to(_inside(next))
    return _form(next)


@router.post(SIGN_IN)
async def sign_in(
    request: Request,
    context: Shared,
    key: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002  as in the form
) -> Response:
    """Begin a session with a key."""
    token = await asyncio.to_thread(context.scheduler.sessions.begin, key.strip())
    if token is None:
        return _form(next, "This key is unknown, revoked or expired.")
    await _end(request, context)  # the cookie of the one before is written over, so nobody could sign out of it
    answer = to(_inside(next))
    answer.set_cookie(
        COOKIE, token, max_age=int(SESSION_SECONDS), httponly=True, samesite="lax", secure=_is_secure(request, context)
    )
    return answer


@router.post(SIGN_OUT)
async def sign_out(request: Request, context: Shared) -> Response:
    """End the session, here and for good."""
    await _end(request, context)
    answer = to(SIGN_IN)
    answer.delete_cookie(COOKIE)
    return answer


async def _end(request: Request, context: Context) -> None:
    """End the session that a request belongs to, if there is one."""
    token = session_of(request.scope)
    if token is not None:
        await asyncio.to_thread(context.scheduler.sessions.end, token)


def _form(wanted: str, problem: str | None = None) -> Response:
    return bare("sign_in.html", 401 if problem else 200, wanted=_inside(wanted), problem=problem)


def _is_secure(request: Request, context: Shared) -> bool:
    public = context.settings.public_url
    return request.url.scheme == "https" or (public is not None and public.startswith("https:"))


def _inside(wanted: str) -> str:
    """The path that was wanted, if it is one of ours; one that is too long is not worth failing for."""
    if len(wanted) > _WANTED_MAX_CHARS:
        return "/"
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/"
    is_ours = not parts.scheme and not parts.netloc and wanted.startswith("/") and wanted[1:2] not in ("/", "\\")
    return wanted if is_ours and wanted.isprintable() else "/"
