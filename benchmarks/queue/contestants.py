"""The queues of one run: which there are, what an acknowledged job survives, and a fresh database for each measure."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.queue import environments
from benchmarks.queue.children import Program
from benchmarks.queue.servers import Postgres

OURS = "reelq"
_ON_POSTGRES = "PostgreSQL, fsync, synchronous_commit on"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A queue on an engine; `claims` tells whether the cost of a claim could depend on how much is queued."""

    queue: str
    engine: str
    durability: str
    claims: bool = True

    @property
    def name(self) -> str:
        """How tables and results call it."""
        return f"{self.queue} on {_ENGINE_NAMES[self.engine]}"

    @property
    def is_ours(self) -> bool:
        """Whether it is this project's queue."""
        return self.queue == OURS


_ENGINE_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "redis": "Redis"}
_ALL = (
    Contestant(OURS, "sqlite", "SQLite, WAL, synchronous = FULL"),
    Contestant(OURS, "postgresql", _ON_POSTGRES),
    Contestant("procrastinate", "postgresql", _ON_POSTGRES),
    Contestant("pgqueuer", "postgresql", f"{_ON_POSTGRES}; up to two jobs at once"),
    Contestant("huey", "sqlite", "SQLite, WAL, synchronous = FULL; a claim deletes the job: at most once"),
    Contestant("saq", "redis", "Redis, appendfsync always", claims=False),
)


@dataclass(frozen=True, slots=True)
class Arena:
    """The servers of a run, and the folder for its files. `redis` is the URL of a Redis, if there is one."""

    folder: Path
    postgres: Postgres
    redis: str | None

    def contestants(self, engines: tuple[str, ...], *, peers: bool) -> list[Contestant]:
        """Return who takes part."""
        chosen = [one for one in _ALL if one.is_ours or peers]
        if self.redis is None:
            chosen = [one for one in chosen if one.engine != "redis"]
        return [one for one in chosen if one.engine in engines or one.engine == "redis"]

    @contextmanager
    def fresh(self, contestant: Contestant) -> Iterator[Program]:
        """Make an empty database for a queue, install its schema, and drop it all at the end."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        in_postgres = contestant.engine == "postgresql"
        if in_postgres:
            url = self.postgres.create()
        elif contestant.engine == "redis":
            assert self.redis is not None
            url = self.redis
        else:
            url = f"sqlite:///{folder}/queue.db" if contestant.is_ours else f"{folder}/queue.db"
        if contestant.is_ours:
            program = Program(Path(sys.executable), "benchmarks.queue.reelq", url, folder)
        else:
            python = environments.python_of(contestant.queue)
            program = Program(python, f"benchmarks.queue.peers.{contestant.queue}", url, folder)
        program.play("install")
        try:
            yield program
        finally:
            if in_postgres:
                self.postgres.drop(url)
            shutil.rmtree(folder)
