"""How paths, form fields and files of a request are written."""

import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote


def route(kind: str, identifier: str, action: str | None = None) -> str:
    """Return `/v1/<kind>/<identifier>[/<action>]`; whatever the identifier holds, it stays one segment."""
    path = f"/v1/{kind}/{quote(identifier, safe='')}"
    return path if action is None else f"{path}/{action}"


def form(params: Mapping[str, Any]) -> dict[str, str]:
    """Return form fields: text as it is, everything else (numbers, `metadata`) as JSON, None left out."""
    known = {key: value for key, value in params.items() if value is not None}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()}


def upload(image: Path | bytes, content: IO[bytes] | bytes) -> tuple[str, IO[bytes] | bytes, str]:
    """Return the name, content and type that httpx sends for `image`; the server looks at the bytes alone."""
    name = "image" if isinstance(image, bytes) else image.name
    return name, content, mimetypes.guess_type(name)[0] or "application/octet-stream"
