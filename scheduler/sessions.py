"""Sessions: a browser shows its key once, and then a token that opens no more than the pages and ends by itself.

Of each token only its SHA-256 is kept. What a session may do is what its key may do at that moment.
"""

import hashlib
import re
import secrets

from sqlalchemy import delete, insert, select

from scheduler.keys import Key, Keys
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.store.script import Statement

SESSION_SECONDS = 7 * 86_400.0
MOST = 64  # sessions of a key; whoever begins more ends the oldest
_TOKEN_BYTES = 32  # random, so that a plain hash is enough
_TOKEN = re.compile(r"rs_[A-Za-z0-9_-]{43}")


class Sessions:
    """The sessions. Thread-safe; each method is a short transaction or a look."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def begin(self, secret: str) -> str | None:
        """Return the token of a new session of the key that `secret` opens; None where it opens none."""
        key = self._keys.authenticate(secret)
        if key is None:
            return None
        token = f"rs_{secrets.token_urlsafe(_TOKEN_BYTES)}"
        with self._database.write() as conn:
            now = self._database.now(conn)
            conn.execute(delete(_row).where(_row.c.expires_at <= now))
            kept = select(_row.c.sha256).where(_row.c.key_id == key.id).order_by(_row.c.expires_at.desc())
            conn.execute(delete(_row).where(_row.c.key_id == key.id, _row.c.sha256.not_in(kept.limit(MOST - 1))))
            conn.execute(insert(_row).values(sha256=_sha256(token), key_id=key.id, expires_at=now + SESSION_SECONDS))
        return token

    def key(self, token: str) -> Key | None:
        """Return the key of a session; None where the session is unknown or over, or its key opens nothing any more."""
        if not _TOKEN.fullmatch(token):
            return None
        found = self._database.glance(_OPEN, {"sha256": _sha256(token)})
        return self._keys.working(found[0][0]) if found else None

    def end(self, token: str) -> None:
        """End a session; one that is over stays so."""
        with self._database.write() as conn:
            conn.execute(delete(_row).where(_row.c.sha256 == _sha256(token)))


_row = s.sessions
_OPEN = Statement("SELECT key_id FROM sessions WHERE sha256 = :sha256 AND expires_at > {now}")


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
