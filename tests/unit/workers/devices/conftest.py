"""The probe on a fake driver that a test configures."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import fake_nvml
from workers.devices import NvmlProbe

Configure = Callable[..., None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def configure(library: Path, tmp_path: Path) -> Iterator[Configure]:
    control = tmp_path / "control"
    with fake_nvml.loaded(library, control):
        yield lambda *gpus, **options: fake_nvml.configure(control, *gpus, **options)


@pytest.fixture
def probe(configure: Configure) -> Iterator[NvmlProbe]:
    probe = NvmlProbe()
    yield probe
    probe.close()
