"""Styles and scripts: read once, and named by what is in them, so that a browser keeps them until they change."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Response

from app.dashboard.pages import STATIC
from app.errors import RequestError

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FILES = {
    path.name: (path.read_bytes(), _TYPES[path.suffix])
    for path in sorted((Path(__file__).parent / "static").iterdir())
    if path.suffix in _TYPES
}
_VERSION = hashlib.sha256(b"".join(content for content, _ in _FILES.values())).hexdigest()[:16]

router = APIRouter(include_in_schema=False)


def static(name: str) -> str:
    """Return the path at which a file of `static/` is served."""
    return f"{STATIC}{_VERSION}/{name}"


@router.get(STATIC + "{version}/{name}")
async def get_asset(version: str, name: str) -> Response:
    """Return a file. While an upgrade is rolled out another version may be asked for: none is kept under its name."""
    if name not in _FILES:
        raise RequestError(404, "not_found", f"no file {name[:80]}")
    content, kind = _FILES[name]
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if version == _VERSION else "no-store"}
    return Response(content, media_type=kind, headers=headers)
