"""One database, SQLite or PostgreSQL: connections, transactions and the clock that leases run on."""

import select
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    DisconnectionError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scheduler.errors import SqliteTooOld, StorageFull, StoreUnreachable
from scheduler.store.script import Statement, Trip
from scheduler.store.turn import Turn

# Before it, a WAL reset by one writer can lose what another has just committed (https://sqlite.org/wal.html).
SQLITE_MINIMUM = (3, 51, 3)
_BUSY_TIMEOUT_MS = 15_000
_SWITCH_PAUSE_SECONDS = 0.002
# A client that vanishes in mid-transaction must not hold its row locks, nor a dead server its callers, for hours.
_POSTGRES_LIMITS = {"connect_timeout": 5, "tcp_user_timeout": 10_000}  # seconds, milliseconds
_POSTGRES_OPTIONS = "-c idle_in_transaction_session_timeout=15s -c lock_timeout=15s -c statement_timeout=30s"
# To plan a claim takes longer than to run it, and it has one good plan, whatever its parameters: along the claim index,
# in its order. With statistics from when the queue was empty, sorting all of it would seem as good.
_PLAN_ONCE = " -c plan_cache_mode=force_generic_plan -c enable_bitmapscan=off -c enable_sort=off"
# What PostgreSQL says on a standby, and when it has ended a transaction that took too long.
_UNUSABLE_STATES = frozenset({"25006", "25P03", "25P04"})
# A pipeline stops the clock of idle_in_transaction_session_timeout, so that a process that is stopped in one would hold
# its locks for as long as it sleeps. Above lock_timeout; PostgreSQL 17 and later know it.
_TRANSACTION_TIMEOUT = "SET transaction_timeout = '30s'"
_TRANSACTION_TIMEOUT_SINCE = 170_000
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
        self._engine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url, _POSTGRES_OPTIONS)
        self._trips = self._engine if self.is_sqlite else _postgres_trips_engine(self.url)
        self._writers = _turn_of(self.url) if self.is_sqlite else None
        self._glancing = threading.Lock()  # guards _glancer, which is SQLite's
        self._glancer: PoolProxiedConnection | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that writes nothing; on SQLite it sees one snapshot, on PostgreSQL each statement its own."""
        with translated(), self._driver_errors(), self._engine.connect() as conn:
            yield conn
            conn.commit()  # psycopg forgets what it has prepared when it rolls back

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits when the block ends, or rolls back when it raises."""
        with self._turn(), translated(), self._driver_errors(), self._engine.connect() as conn:
            writing = conn.execution_options(reelq_write=True)
            with writing.begin():
                yield writing

    @contextmanager
    def trip(self) -> Iterator[Trip]:
        """Do what `write` does, on the driver itself: for the statements of `script`."""
        with self._turn(), translated(), self._driver_errors():
            pooled = self._trips.raw_connection()
            trip = Trip(pooled.driver_connection, self.dialect, self.clock)
            try:
                trip.begin()
                yield trip
                trip.end()
            except BaseException:
                try:
                    trip.undo()
                except Exception as error:  # noqa: BLE001  lost, or stuck in a pipeline: the next gets another one
                    pooled.invalidate(error)
                raise
            finally:
                pooled.close()

    def glance(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one statement that reads, by the driver alone: a transaction by itself."""
        try:
            if self.is_sqlite:
                return self._glance_at_file(statement, parameters)
            pooled = self._trips.raw_connection()
            try:
                return _rows(pooled, statement.sql(self.dialect, self.clock), parameters)
            finally:
                pooled.close()
        except Exception:
            with translated(), self._driver_errors():
                raise

    def _glance_at_file(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
        # To take a connection from the pool and give it back takes several times as long as the statement.
        with self._glancing:
            if self._glancer is None:
                self._glancer = self._engine.raw_connection()
            try:
                return _rows(self._glancer, statement.sql(self.dialect, self.clock), parameters)
            except Exception:
                self._glancer.invalidate()
                self._glancer = None
                raise

    @contextmanager
    def _driver_errors(self) -> Iterator[None]:
        """Raise the driver's errors as SQLAlchemy would."""
        dialect = self._trips.dialect
        driver = dialect.loaded_dbapi
        try:
            yield
        except driver.Error as error:
            raise DBAPIError.instance(None, None, error, driver.Error, dialect=dialect) from error

    def _turn(self) -> AbstractContextManager[None]:
        return self._writers.taken() if self._writers else nullcontext()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return "sqlite" if self.is_sqlite else "postgresql"

    @property
    def clock(self) -> str:
        """The SQL expression for seconds since 1970 by the database's clock, the only one that leases go by."""
        if self.is_sqlite:
            return "unixepoch('subsec')"
        return "CAST(extract(epoch from clock_timestamp()) AS double precision)"

    def now(self, conn: Connection) -> float:
        """Return what the database's clock says."""
        return float(conn.execute(text(f"SELECT {self.clock}")).scalar_one())

    def lock_all(self, conn: Connection) -> None:
        """Let one transaction at a time pass here until it ends; on SQLite every write is alone anyway."""
        if not self.is_sqlite:
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})

    def without_limits(self, conn: Connection) -> None:
        """Let this transaction take as long as it needs."""
        if not self.is_sqlite:
            conn.execute(text("SET LOCAL statement_timeout = 0"))
            conn.execute(text("SET LOCAL lock_timeout = 0"))

    def close(self) -> None:
        """Close every connection."""
        with self._glancing:
            if self._glancer is not None:
                self._glancer.close()
                self._glancer = None
        self._engine.dispose()
        self._trips.dispose()
        if self._writers:
            self._writers.close()


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors for a full disk or an unusable database into ours; leave bugs as they are."""
    try:
        yield
    except DBAPIError as error:
        line = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        if any(message in line for message in _FULL_MESSAGES):
            raise StorageFull("the database has no room left") from error
        # SQLite says a plain DatabaseError when the file is none, or damaged.
        unusable = isinstance(error, OperationalError) or type(error) is DatabaseError
        if unusable or error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _UNUSABLE_STATES:
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


def _turn_of(url: URL) -> Turn | None:
    """The turn of an SQLite file; one in memory has a single connection."""
    return Turn(Path(url.database), _BUSY_TIMEOUT_MS / 1000) if url.database not in (None, "", ":memory:") else None


def _sqlite_engine(url: URL) -> Engine:
    import pysqlite3

    if pysqlite3.sqlite_version_info < SQLITE_MINIMUM:
        need = ".".join(map(str, SQLITE_MINIMUM))
        raise SqliteTooOld(
            f"SQLite {pysqlite3.sqlite_version} can corrupt a shared database; {need} or newer is needed"
        )
    engine = create_engine(url, module=pysqlite3.dbapi2, pool_size=20, max_overflow=40, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        _use_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        options: dict[str, Any] = dict(conn.get_execution_options())
        conn.exec_driver_sql("BEGIN IMMEDIATE" if options.get("reelq_write") else "BEGIN")

    return engine


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Switch a file to write-ahead logging, for good. Of several that do so at once SQLite refuses all but one."""
    until = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except cursor.connection.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > until:
                raise
            time.sleep(_SWITCH_PAUSE_SECONDS)
        else:
            return


def _postgres_engine(url: URL, options: str) -> Engine:
    try:
        arguments = _POSTGRES_LIMITS | {"options": options}
        engine = create_engine(url, pool_size=10, max_overflow=30, connect_args=arguments, hide_parameters=True)
    except (ImportError, NoSuchModuleError):
        raise StoreUnreachable("PostgreSQL needs the driver: pip install 'reelq[postgres]'") from None

    @event.listens_for(engine, "checkout")
    def refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
        # An idle connection has nothing to say, unless the server has ended it. Asking the socket costs no round trip.
        watched = select.poll()
        if not connection.closed:
            watched.register(connection.fileno(), select.POLLIN)
        if connection.closed or watched.poll(0):
            raise DisconnectionError("the server has closed the connection")

    return engine


def _postgres_trips_engine(url: URL) -> Engine:
    engine = _postgres_engine(url, _POSTGRES_OPTIONS + _PLAN_ONCE)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.autocommit = True  # a trip says BEGIN itself, where one statement is not all
        if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            connection.execute(_TRANSACTION_TIMEOUT)

    return engine


def _rows(connection: PoolProxiedConnection, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(sql, parameters)
    return list(cursor.fetchall())
