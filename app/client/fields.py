"""How paths, queries and fields of a request are written."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote


def route(kind: str, identifier: str, action: str | None = None) -> str:
    """Return `/v1/<kind>/<identifier>[/<action>]`; whatever the identifier holds, it stays one segment."""
    path = f"/v1/{kind}/{quote(identifier, safe='')}"
    return path if action is None else f"{path}/{action}"


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not None, times as RFC 3339 text."""
    return {key: _plain(value) for key, value in values.items() if value is not None}


def form(values: Mapping[str, Any]) -> dict[str, str]:
    """Return form fields: text as it is, everything else (numbers, `metadata`) as JSON, None left out."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in known(values).items()}


def _plain(value: Any) -> Any:
    return value.astimezone().isoformat() if isinstance(value, datetime) else value
