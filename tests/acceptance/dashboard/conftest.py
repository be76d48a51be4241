"""A browser for the pages of a real service."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Visits, chromium, needs_chromium
from tests.support.service import Service


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is below this folder."""
    for item in items:
        if "acceptance/dashboard" in item.path.as_posix():
            item.add_marker(pytest.mark.acceptance)
            item.add_marker(needs_chromium)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture
def visits(browser: Browser, service: Service) -> Iterator[Visits]:
    """Visits to the service of the file; no page may have an error, or ask anybody else for anything."""
    made = Visits(browser, service.url)
    yield made
    made.close()
    assert made.faults == []
