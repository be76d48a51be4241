"""The scheduler on each engine in turn, with a clock that moves only when told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.policy import Policy
from scheduler.service import Scheduler
from tests.support.blobs import blob_url, make_file, s3_server
from tests.support.databases import (
    Clock,
    clock,
    data_dir,
    database_url,
    engine,
    fresh_database,
    postgres_server,
    sqlite_template,
)
from tests.support.fleet import open_scheduler
from tests.support.sizes import fixed_sizes

__all__ = [
    "blob_url",
    "clock",
    "data_dir",
    "database_url",
    "engine",
    "fixed_sizes",
    "fresh_database",
    "make_file",
    "postgres_server",
    "s3_server",
    "sqlite_template",
]


@pytest.fixture
def policy() -> Policy:
    """The queue's policy; a test module may override it."""
    return Policy()


@pytest.fixture
def scheduler(database_url: str, data_dir: Path, policy: Policy, clock: Clock) -> Iterator[Scheduler]:
    """The scheduler on an empty database, under the fake clock."""
    with open_scheduler(database_url, data_dir, policy) as opened:
        yield opened
