"""The secrets that sign what the tenants' endpoints are sent: each tenant has one, and for a day also what it replaced.

They are stored as they are, not as digests: whoever signs must have them.
"""

import base64
import secrets
from typing import Any

from sqlalchemy import Connection

from scheduler.store import eventlog
from scheduler.store import webhooks as store

_ROTATION_SECONDS = 86_400.0  # how long a secret is in force beside the one that has replaced it
_SECRETS_KEPT = 5  # at most, so that rotating again and again does not make the signatures grow
_SECRET_BYTES = 32


def known(conn: Connection, tenant: str, now: float) -> tuple[str, ...]:
    """Return the secrets of a tenant that are in force, the newest first; none before the first one is made."""
    return _texts(_in_force(store.secrets(conn, tenant), now))


def ensured(conn: Connection, tenant: str, now: float) -> tuple[str, ...]:
    """Return the secrets of a tenant that are in force, the newest first; makes one where there is none."""
    in_force = _in_force(store.secrets(conn, tenant), now)
    if not in_force:
        in_force = _in_force(store.lock_secrets(conn, tenant), now)  # somebody may have made one meanwhile
    if not in_force:
        in_force = [{"secret": _new_secret(), "until": None}]
        store.put_secrets(conn, tenant, in_force)
    return _texts(in_force)


def rotate(conn: Connection, tenant: str, now: float, actor: str) -> str:
    """Replace the secret of a tenant, and return the new one."""
    over_at = now + _ROTATION_SECONDS
    old = [
        {"secret": one["secret"], "until": over_at if one["until"] is None else one["until"]}
        for one in _in_force(store.lock_secrets(conn, tenant), now)
    ]
    new = _new_secret()
    store.put_secrets(conn, tenant, [{"secret": new, "until": None}, *old][:_SECRETS_KEPT])
    eventlog.append(conn, "webhook.secret_rotated", tenant, now, tenant=tenant, actor=actor)
    return new


def _in_force(known: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    return [one for one in known if one["until"] is None or one["until"] > now]


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _texts(kept: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(one["secret"] for one in kept)
