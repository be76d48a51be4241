"""API keys: who may call, and what. Of each key only its SHA-256 is kept."""

import hashlib
import re
import secrets
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import insert, or_, select, update

from scheduler import ids
from scheduler.errors import InvalidParameter, NotFound, SchedulerError
from scheduler.params import check_text
from scheduler.store import eventlog
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.store.rows import as_json
from scheduler.store.script import Statement
from scheduler.tenants import DEFAULT, check_id

NAME_MAX_CHARS = 100
_SECRET_BYTES = 32  # random, so that a plain hash is enough: nobody could try them all
_SECRET = re.compile(r"rq_[A-Za-z0-9_-]{43}")
_USED_SECONDS = 60.0  # how exactly it is known when a key was last used
_YEAR_10000 = 253_402_300_800.0

log = structlog.get_logger(__name__)


class Scope(StrEnum):
    """What a key allows."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secret. Times are seconds since 1970 by the database's clock; None: not, or never."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    used_at: float | None  # to the minute

    def works_at(self, now: float) -> bool:
        """Whether it opens anything at a time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Keys:
    """The keys. Thread-safe; each method is one transaction. A key's row is never deleted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._made = False
        self._noting = threading.Lock()

    def create(
        self,
        name: str,
        *,
        tenant: str = DEFAULT,
        scopes: Collection[Scope],
        actor: str,
        expires_at: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key and return it with its secret, which is stored nowhere. Raises `InvalidParameter`."""
        check_text("name", name, required=True, max_chars=NAME_MAX_CHARS)
        check_id(tenant)
        if not scopes:
            raise InvalidParameter("scopes", f"must be one or more of {', '.join(Scope)}")
        secret = f"rq_{secrets.token_urlsafe(_SECRET_BYTES)}"
        with self._database.write() as conn:
            now = self._database.now(conn)
            if expires_at is not None and not now < expires_at < _YEAR_10000:
                raise InvalidParameter("expires_at", "must be in the future, and before the year 10000")
            key = Key(ids.new_id("key"), tenant, name, frozenset(scopes), now, expires_at, None, None)
            conn.execute(
                insert(s.api_keys).values(
                    id=key.id,
                    sha256=_sha256(secret),
                    tenant=tenant,
                    name=name,
                    scopes=sorted(key.scopes),
                    created_at=now,
                    expires_at=expires_at,
                )
            )
            data = {"name": name, "scopes": sorted(key.scopes), "expires_at": expires_at}
            eventlog.append(conn, "key.created", key.id, now, tenant=tenant, actor=actor, data=data)
        self._made = True
        return key, secret

    def list(self, tenant: str | None = None) -> Sequence[Key]:
        """Return the keys, of one tenant where given, the oldest first; those that work no more included."""
        query = select(*_COLUMNS).order_by(s.api_keys.c.id)
        if tenant is not None:
            query = query.where(s.api_keys.c.tenant == tenant)
        with self._database.read() as conn:
            return [_key(row) for row in conn.execute(query)]

    def revoke(self, key_id: str, actor: str) -> Key:
        """Make a key useless from now on, for good; one that is already stays as it is. Raises `NotFound`."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            revoked = conn.execute(
                update(s.api_keys).where(_row.id == key_id, _row.revoked_at.is_(None)).values(revoked_at=now)
            )
            found = conn.execute(select(*_COLUMNS).where(_row.id == key_id)).one_or_none()
            if found is None:
                raise NotFound(f"no key {key_id[:80]}")
            key = _key(found)
            if revoked.rowcount:
                data = {"name": key.name}
                eventlog.append(conn, "key.revoked", key_id, now, tenant=key.tenant, actor=actor, data=data)
        return key

    def authenticate(self, secret: str) -> Key | None:
        """Return the key that `secret` opens, or None: it is unknown, revoked, or has expired.

        One look by the hash, so that the time it takes tells nothing of what is stored.
        """
        if not _SECRET.fullmatch(secret):
            return None
        return self._in_use(self._database.glance(_BY_HASH, {"sha256": _sha256(secret)}))

    def working(self, key_id: str) -> Key | None:
        """Return a key that still opens what it says, and count it as used; None: it is unknown, revoked or expired."""
        return self._in_use(self._database.glance(_BY_ID, {"id": key_id}))

    def _in_use(self, rows: Sequence[Sequence[Any]]) -> Key | None:
        if not rows:
            return None
        *values, now = rows[0]
        key = _key(values)
        if not key.works_at(now):
            return None
        if key.used_at is None or now - key.used_at >= _USED_SECONDS:
            self._note_use(key.id)
        return key

    def any_made(self) -> bool:
        """Return whether there has ever been a key; once there has, it is not looked up again."""
        if not self._made:
            with self._database.read() as conn:
                self._made = conn.execute(_ANY).first() is not None
        return self._made

    def _note_use(self, key_id: str) -> None:
        """Write down that a key is in use, which must not keep its caller out; one thread does it for all."""
        if not self._noting.acquire(blocking=False):
            return
        try:
            with self._database.write() as conn:
                now = self._database.now(conn)
                unused = or_(_row.used_at.is_(None), _row.used_at <= now - _USED_SECONDS)
                conn.execute(update(s.api_keys).where(_row.id == key_id, unused).values(used_at=now))
        except SchedulerError as error:  # a full disk, say
            log.warning("the use of a key could not be noted", key_id=key_id, error=str(error))
        finally:
            self._noting.release()


_row = s.api_keys.c
_NAMES = tuple(field.name for field in fields(Key))
_COLUMNS = [_row[name] for name in _NAMES]
_SELECT = f"SELECT {', '.join(_NAMES)}, {{now}} FROM api_keys WHERE "  # noqa: S608  ours
_BY_HASH = Statement(_SELECT + "sha256 = :sha256")
_BY_ID = Statement(_SELECT + "id = :id")
_ANY = select(_row.id).limit(1)


def _key(values: Sequence[Any]) -> Key:
    """Read the columns `_NAMES` of a row, whoever has fetched it."""
    named = dict(zip(_NAMES, values, strict=True))
    return Key(**(named | {"scopes": frozenset(map(Scope, as_json(named["scopes"])))}))


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
