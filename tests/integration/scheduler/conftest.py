"""A PostgreSQL server that tests here may stop, and machines that share a database on it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url

from scheduler.wakeup import Wakeup
from tests.support.databases import PostgresServer, data_dir, postgres_server

__all__ = ["data_dir", "postgres_server"]

NewMachine = Callable[[], Wakeup]


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[URL]:
    """The URL of an empty database."""
    name = postgres_server.create()
    yield make_url(postgres_server.url(name))
    postgres_server.drop(name)


@pytest.fixture
def machine(url: URL) -> Iterator[NewMachine]:
    """Return a function that makes a machine: a data directory of its own, and the one database."""
    with ExitStack() as stack:

        def new() -> Wakeup:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="reelq-"))
            wakeup = Wakeup(Path(folder), url)
            stack.callback(wakeup.close)
            return wakeup

        yield new
