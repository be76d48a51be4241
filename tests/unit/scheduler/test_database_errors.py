"""A database that cannot be used is told in one clear line, and a bug stays a bug."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy.exc import IntegrityError

from scheduler.errors import SchedulerError, StorageFull, StoreUnreachable
from scheduler.service import Scheduler
from scheduler.settings import StoreSettings
from scheduler.store.database import Database, sqlite_url
from scheduler.store.migrate import migrate

ROOT = Path(__file__).parents[3]


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def refused(why: str, error: type[SchedulerError] = StoreUnreachable) -> Iterator[None]:
    with pytest.raises(error, match=why) as raised:
        yield
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://host/db", "must be sqlite or postgresql, not mysql"),
        ("", "not a database URL"),
    ],
)
def test_another_url_is_refused(url: str, why: str) -> None:
    with refused(f"REELQ_DATABASE_URL .*{why}"):
        Database(url)


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to look at" * 100, b"SQLite format 3\0" * 100]
)
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reelq.db"
    path.write_bytes(content)

    with opened(sqlite_url(path)) as database, refused("the database cannot be used: .*(not a database|malformed)"):
        migrate(database)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with opened(sqlite_url(tmp_path / "no" / "reelq.db")) as database, refused("unable to open database file"):
        migrate(database)


def test_a_server_that_is_not_there() -> None:
    with opened("postgresql://127.0.0.1:9/reelq?connect_timeout=5") as database, refused("the database cannot be used"):
        migrate(database)


def test_a_full_disk(tmp_path: Path) -> None:
    with opened(sqlite_url(tmp_path / "reelq.db")) as database:
        migrate(database)
        with refused("^the database has no room left$", StorageFull), database.write() as conn:
            pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
            conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            conn.exec_driver_sql(
                "INSERT INTO models VALUES ('m', 'a', 1, hex(zeroblob(1000000)), 0, NULL, NULL)",
            )


def test_all_connections_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(sqlite_url(tmp_path / "reelq.db")) as database, ExitStack() as busy:
        pool = database._engine.pool
        monkeypatch.setattr(pool, "_timeout", 0.01)
        for _ in range(60):
            busy.enter_context(database.read())
        with refused("all its connections are busy"), database.read():
            pass


def test_a_bug_is_not_an_unusable_database(tmp_path: Path) -> None:
    with opened(sqlite_url(tmp_path / "reelq.db")) as database:
        migrate(database)
        with pytest.raises(IntegrityError), database.write() as conn:
            conn.exec_driver_sql("INSERT INTO models VALUES ('m', NULL, 1, '', 0, NULL, NULL)")


def test_a_write_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with opened(sqlite_url(tmp_path / "reelq.db")) as database:
        migrate(database)

        def write_and_fail() -> None:
            with database.write() as conn:
                conn.exec_driver_sql("INSERT INTO models VALUES ('m', 'a', 1, '', 0, NULL, NULL)")
                raise LookupError

        with pytest.raises(LookupError):
            write_and_fail()
        with database.read() as conn:
            assert conn.exec_driver_sql("SELECT count(*) FROM models").scalar_one() == 0


def test_any_path_can_hold_the_database(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20ü"
    folder.mkdir()
    with opened(sqlite_url(folder / "reelq.db")) as database:
        migrate(database)

    assert (folder / "reelq.db").is_file()


def test_sqlite_is_durable_and_fit_for_several_writers(tmp_path: Path) -> None:
    with opened(sqlite_url(tmp_path / "reelq.db")) as database, database.read() as conn:
        read = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert read == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15_000}


def test_an_old_sqlite_is_refused(tmp_path: Path) -> None:
    """In a process whose `pysqlite3` is a shim that carries 3.40.1."""
    shim = tmp_path / "pysqlite3"
    shim.mkdir()
    (shim / "__init__.py").write_text("sqlite_version = '3.40.1'\nsqlite_version_info = (3, 40, 1)\n")
    program = f"""
        import sys
        sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
        from scheduler.errors import SqliteTooOld
        from scheduler.store.database import Database
        try:
            Database("sqlite:///reelq.db")
        except SqliteTooOld as error:
            print(error)
    """

    done = _python(program)

    assert done.stdout == "SQLite 3.40.1 can corrupt a shared database; 3.51.3 or newer is needed\n", done.stderr


def test_a_file_in_place_of_the_data_directory(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("")

    with refused("cannot use the data directory .*data: File exists"):
        Scheduler.open(StoreSettings(data_dir=path))
    with refused("cannot use the data directory .*data/below: Not a directory"):
        Scheduler.open(StoreSettings(data_dir=path / "below"))


def test_a_new_data_directory_is_private_and_complete(data_dir: Path) -> None:
    folder = data_dir / "new"

    with Scheduler.open(StoreSettings(data_dir=folder)) as scheduler:
        assert scheduler.queue.list_jobs() == []

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {"reelq.db", "blobs", "run"} <= {path.name for path in folder.iterdir()}


def test_a_data_directory_without_permission(data_dir: Path) -> None:
    """As a user who is not root, who may do everything."""
    folder = data_dir / "data"
    folder.mkdir(mode=0o500)
    program = f"""
        import os, sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from scheduler.errors import StoreUnreachable
        from scheduler.service import Scheduler
        from scheduler.settings import StoreSettings
        import pysqlite3, sqlalchemy.dialects.sqlite  # while files can still be read
        if os.getuid() == 0:
            os.chown({str(data_dir)!r}, 65534, 65534)
            os.chown({str(folder)!r}, 65534, 65534)
            os.setgid(65534)
            os.setuid(65534)
        try:
            Scheduler.open(StoreSettings(data_dir=Path({str(folder)!r})))
        except StoreUnreachable as error:
            print(error)
    """

    done = _python(program)

    expected = f"cannot use the data directory {folder}: no permission to read and write it\n"
    assert done.stdout == expected, done.stderr


def _python(program: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REELQ_")}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    together = Barrier(8)

    def look(url: str) -> float:
        with opened(url) as database:
            together.wait()
            with database.read() as conn:
                return database.now(conn)

    with ThreadPoolExecutor(together.parties) as threads:
        for number in range(20):
            urls = [sqlite_url(tmp_path / f"{number}.sqlite")] * together.parties
            assert all(threads.map(look, urls))
