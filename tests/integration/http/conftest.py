from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from scheduler.store.database import Database, sqlite_url
from scheduler.store.migrate import migrate
from tests.support.http import Site, open_site

SiteFactory = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the schema and no rows, to copy: migrating takes a fifth of a second."""
    path = tmp_path_factory.mktemp("migrated") / "reelq.db"
    database = Database(sqlite_url(path))
    migrate(database)
    database.close()
    return path


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Log lines as `key=value` on standard output: structlog's default draws whole frames for a traceback."""
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ],
        cache_logger_on_first_use=False,
    )
    yield
    structlog.configure(**before)


@pytest.fixture
def opened(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> SiteFactory:
    """Open a site with settings of the test's own; once a test."""
    return partial(open_site, tmp_path, migrated, monkeypatch)


@pytest.fixture
async def site(opened: Any) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(opened())
