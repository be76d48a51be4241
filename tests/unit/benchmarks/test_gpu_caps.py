"""Finding the smallest cap, on a stand-in for a GPU that runs out of memory below what a job needs."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import caps
from benchmarks.gpu.rows import RECIPE
from scheduler import catalog
from workers.pipelines import runtime
from workers.pipelines.runtime import DeviceMemory

GIB = 2**30
CONTEXT_BYTES = GIB // 2


class FakeGpu:
    """A GPU of 80 GiB; a job needs `need_bytes` of the allocator, of which `live_bytes` are alive at once."""

    def __init__(self, need_bytes: int, live_bytes: int) -> None:
        self.need_bytes = need_bytes
        self.tried: list[int] = []
        self._limit_bytes = 80 * GIB
        self._memory = DeviceMemory(live_bytes, need_bytes, live_bytes, 2 * need_bytes)
        self.subject = SimpleNamespace(
            device=torch.device("cuda"),
            info=SimpleNamespace(total_bytes=80 * GIB),
            sheet=catalog.architecture(catalog.I2VGEN_XL).data_sheet("NVIDIA H100", 4_970_000_000),
        )
        self.meter = SimpleNamespace(held_bytes=lambda: need_bytes + CONTEXT_BYTES)

    def use(self, plan: str) -> None:
        self.plan = plan

    def free(self) -> None:
        pass

    def run(self, plan: str, *_: Any) -> None:
        self.tried.append(self._limit_bytes)
        if self._limit_bytes < self.need_bytes:
            raise torch.OutOfMemoryError("injected")

    def cap(self, _device: torch.device, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes

    def memory(self, _device: torch.device) -> DeviceMemory:
        return self._memory


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu(need_bytes=10 * GIB, live_bytes=8 * GIB)
    monkeypatch.setattr(runtime, "cap_memory", fake.cap)
    monkeypatch.setattr(runtime, "device_memory", fake.memory)
    return fake


def test_the_smallest_cap_is_found_and_includes_the_context(gpu: FakeGpu) -> None:
    found = caps.Capped(gpu).smallest(RECIPE, "fp16-streamed")  # type: ignore[arg-type]  # it does what is used
    enough = found["cap_bytes"] - CONTEXT_BYTES
    assert 10 * GIB <= enough <= 10 * GIB + 128 * 2**20
    assert found["tries"] == len(gpu.tried) - 1
    assert min(gpu.tried) > 8 * GIB  # below what is alive at once nothing was tried


def test_under_24_gb_the_fastest_plan_that_is_predicted_to_fit_runs(gpu: FakeGpu) -> None:
    found = caps.Capped(gpu).as_predicted(RECIPE, ("fp16", "fp16-chunked"))  # type: ignore[arg-type]  # likewise
    assert (found["plan"], found["runs"]) == ("fp16", True)
    assert gpu.tried == [caps.CAP_BYTES - CONTEXT_BYTES]


def test_a_failure_under_the_cap_is_reported(gpu: FakeGpu) -> None:
    gpu.need_bytes = 30 * GIB
    found = caps.Capped(gpu).as_predicted(RECIPE, ("fp16",))  # type: ignore[arg-type]  # likewise
    assert found["runs"] is False


def test_the_leanest_plan_does_not_change_pixels() -> None:
    assert caps.leanest(("fp16", "fp16-streamed", "int8")) == "fp16-streamed"
    assert caps.leanest(("int8",)) is None
