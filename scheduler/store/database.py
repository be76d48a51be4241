"""One database, SQLite or PostgreSQL: connections, transactions and the clock that leases run on."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scheduler.errors import SqliteTooOld, StorageFull, StoreUnreachable

# Before it, a WAL reset by one writer can lose what another has just committed (https://sqlite.org/wal.html).
SQLITE_MINIMUM = (3, 51, 3)
_BUSY_TIMEOUT_MS = 15_000
# A client that vanishes in mid-transaction must not hold its row locks, nor a dead server its callers, for hours.
_POSTGRES_LIMITS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds
    "options": "-c idle_in_transaction_session_timeout=15s -c lock_timeout=15s -c statement_timeout=30s",
}
_ADVISORY_LOCK = 0x7265656C71  # "reelq"
_FULL_MESSAGES = ("database or disk is full", "No space left on device", "could not extend file")


class Database:
    """A connection pool with `read()` and `write()` transactions.

    SQLite takes its write lock when a write begins (`BEGIN IMMEDIATE`), so a transaction never fails half-way by
    upgrading; the threads of one process queue on a lock instead of on SQLite's sleeping retries.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        self._writers = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that writes nothing; on SQLite it sees one snapshot, on PostgreSQL each statement its own."""
        with translated(), self._engine.connect() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits when the block ends, or rolls back when it raises."""
        if self.is_sqlite:
            with self._turn(), translated(), self._engine.connect() as conn:
                writing = conn.execution_options(reelq_write=True)
                with writing.begin():
                    yield writing
        else:
            with translated(), self._engine.begin() as conn:
                yield conn

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._writers.acquire(timeout=_BUSY_TIMEOUT_MS / 1000):
            raise StoreUnreachable("the database cannot be used: another process holds its write lock")
        try:
            yield
        finally:
            self._writers.release()

    def now(self, conn: Connection) -> float:
        """Seconds since 1970 by the database's own clock, the only clock that leases are compared with."""
        clock = "unixepoch('subsec')" if self.is_sqlite else "extract(epoch from clock_timestamp())"
        return float(conn.execute(text(f"SELECT {clock}")).scalar_one())

    def lock_all(self, conn: Connection) -> None:
        """Let one transaction at a time pass here until it ends; on SQLite every write is alone anyway."""
        if not self.is_sqlite:
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors for a full disk or an unusable database into ours; leave bugs as they are."""
    try:
        yield
    except DBAPIError as error:
        line = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        if any(message in line for message in _FULL_MESSAGES):
            raise StorageFull(f"the database has no room left: {line}") from error
        # SQLite says a plain DatabaseError when the file is none, or damaged.
        if error.connection_invalidated or isinstance(error, OperationalError) or type(error) is DatabaseError:
            raise StoreUnreachable(f"the database cannot be used: {line}") from error
        raise
    except PoolTimeout as error:
        raise StoreUnreachable("the database cannot be used: all its connections are busy") from error


def sqlite_url(path: Path) -> str:
    """Return the database URL of an SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreUnreachable("REELQ_DATABASE_URL is not a database URL (sqlite:///… or postgresql://…)") from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise StoreUnreachable(f"REELQ_DATABASE_URL must be sqlite or postgresql, not {backend}")
    return parsed.set(drivername="sqlite" if backend == "sqlite" else "postgresql+psycopg")


def _sqlite_engine(url: URL) -> Engine:
    import pysqlite3

    if pysqlite3.sqlite_version_info < SQLITE_MINIMUM:
        need = ".".join(map(str, SQLITE_MINIMUM))
        raise SqliteTooOld(
            f"SQLite {pysqlite3.sqlite_version} can corrupt a shared database; {need} or newer is needed"
        )
    engine = create_engine(url, module=pysqlite3.dbapi2, pool_size=20, max_overflow=40)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        options: dict[str, Any] = dict(conn.get_execution_options())
        conn.exec_driver_sql("BEGIN IMMEDIATE" if options.get("reelq_write") else "BEGIN")

    return engine


def _postgres_engine(url: URL) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30, connect_args=_POSTGRES_LIMITS)
    except (ImportError, NoSuchModuleError):
        raise StoreUnreachable("PostgreSQL needs the driver: pip install 'reelq[postgres]'") from None
