"""Fixtures that start the real service, and a summary of what was measured on the way."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.service import Service


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the tiny model, made by the first worker that needs it."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Service]:
    """A running service that the tests of one file share; they leave it as they found it."""
    running = Service(tmp_path_factory.mktemp("service") / "data", models_dir)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def new_service(tmp_path: Path, models_dir: Path) -> Iterator[Callable[..., Service]]:
    """A maker of services of the test's own, for tests that break things."""
    made: list[Service] = []

    def make(**settings: object) -> Service:
        made.append(Service(tmp_path / f"data{len(made)}", models_dir, **settings))
        return made[-1]

    yield make
    for running in made:
        running.close()
