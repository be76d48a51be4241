"""The container files under test."""

from pathlib import Path

import pytest
import yaml

from tests.unit.docker.parsing import ROOT, Stage, parse_stages


@pytest.fixture(params=["frontend", "worker"])
def image(request: pytest.FixtureRequest) -> str:
    """The name of each image that the project builds."""
    return request.param


@pytest.fixture
def dockerfile(image: str) -> Path:
    return ROOT / "docker" / f"{image}.Dockerfile"


@pytest.fixture
def stages(dockerfile: Path) -> list[Stage]:
    return parse_stages(dockerfile.read_text())


@pytest.fixture(scope="session")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
