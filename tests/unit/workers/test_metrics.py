"""A host's own metrics: its devices as they are, and its worker processes."""

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from workers.devices import DeviceFault, DeviceInfo, DeviceLost, DeviceReading
from workers.metrics import HostMetrics, serving
from workers.settings import WorkerSettings

GIB = 2**30
READING = DeviceReading("GPU-0", 24 * GIB, 3 * GIB, 21 * GIB, {1: GIB, 2: None}, 95.0, 70.0, 250.0, 12_000.0)
BARE = DeviceReading("GPU-1", 24 * GIB, 0, 24 * GIB, {}, None, None, None)


class Probe:
    """Answers what it is given for each device, or raises it."""

    def __init__(self, *answers: DeviceReading | Exception) -> None:
        self._answers = {f"GPU-{number}": answer for number, answer in enumerate(answers)}

    def devices(self) -> tuple[DeviceInfo, ...]:
        return tuple(info(name) for name in self._answers)

    def read(self, device_id: str) -> DeviceReading:
        answer = self._answers[device_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def faults(self) -> tuple[DeviceFault, ...]:
        return ()

    def close(self) -> None:
        pass


@dataclass
class Slot:
    device: DeviceInfo
    pid: int | None = None


def info(name: str) -> DeviceInfo:
    return DeviceInfo(name, "NVIDIA T4", "Tesla T4", 24 * GIB, 0)


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(data_dir=tmp_path, metrics_port=0)


def told(settings: WorkerSettings, probe: Probe, slots: list[Slot]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostMetrics(settings, probe, slots))
    return registry


@contextmanager
def without_proxy(url: str) -> Iterator[str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        yield answer.read().decode()


def test_each_device_is_told_once_as_it_is_now(settings: WorkerSettings) -> None:
    found = told(settings, Probe(READING, BARE), [Slot(info("GPU-0")), Slot(info("GPU-0")), Slot(info("GPU-1"))])

    def value(name: str, gpu: str = "GPU-0") -> float | None:
        return found.get_sample_value(f"reelq_device_{name}", {"gpu": gpu})

    assert (value("memory_used_bytes"), value("memory_total_bytes")) == (3 * GIB, 24 * GIB)
    assert (value("utilization_ratio"), value("temperature_celsius"), value("power_watts")) == (0.95, 70.0, 250.0)
    assert (value("energy_joules_total"), value("processes"), value("readable")) == (12_000.0, 2.0, 1.0)
    assert (value("memory_used_bytes", "GPU-1"), value("readable", "GPU-1")) == (0.0, 1.0)
    for name in ("utilization_ratio", "temperature_celsius", "power_watts", "energy_joules_total"):
        assert value(name, "GPU-1") is None
    free_bytes = found.get_sample_value("reelq_host_disk_free_bytes")
    assert free_bytes is not None
    assert free_bytes > 0


def test_a_device_that_cannot_be_read_has_no_numbers(settings: WorkerSettings) -> None:
    found = told(settings, Probe(DeviceLost("off the bus"), BARE), [Slot(info("GPU-0")), Slot(info("GPU-1"))])
    assert found.get_sample_value("reelq_device_readable", {"gpu": "GPU-0"}) == 0
    assert found.get_sample_value("reelq_device_memory_total_bytes", {"gpu": "GPU-0"}) is None
    assert found.get_sample_value("reelq_device_readable", {"gpu": "GPU-1"}) == 1


def test_worker_processes_are_told_by_their_places(settings: WorkerSettings) -> None:
    ended = max(psutil.pids()) + 4096
    slots = [Slot(info("GPU-0")), Slot(info("GPU-0"), os.getpid()), Slot(info("GPU-1"), ended)]
    found = told(settings, Probe(READING, BARE), slots)
    ours = {"gpu": "GPU-0", "slot": "1"}
    began = found.get_sample_value("reelq_worker_start_time_seconds", ours)
    assert began == psutil.Process().create_time()
    resident_bytes = found.get_sample_value("reelq_worker_resident_memory_bytes", ours)
    assert resident_bytes is not None
    assert resident_bytes > 2**20
    assert found.get_sample_value("reelq_worker_cpu_seconds_total", ours) is not None
    for gone in ({"gpu": "GPU-0", "slot": "0"}, {"gpu": "GPU-1", "slot": "0"}):
        assert found.get_sample_value("reelq_worker_start_time_seconds", gone) is None


def test_they_are_served_on_a_port_and_no_longer_than_asked_for(settings: WorkerSettings) -> None:
    slots: list[Slot] = []
    with serving(settings, Probe(READING), slots) as port:
        slots.append(Slot(info("GPU-0")))  # the list may still be filled when the port is open
        with without_proxy(f"http://127.0.0.1:{port}/metrics") as text:
            assert 'reelq_device_memory_used_bytes{gpu="GPU-0"} 3.221225472e+09' in text
            assert "process_resident_memory_bytes" in text
    with pytest.raises(urllib.error.URLError), without_proxy(f"http://127.0.0.1:{port}/metrics"):
        pass


def test_without_a_port_nothing_is_served(settings: WorkerSettings) -> None:
    with serving(settings.model_copy(update={"metrics_port": None}), Probe(READING), []) as port:
        assert port is None


def test_a_port_that_is_taken_is_told_and_stops_nothing(settings: WorkerSettings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = settings.model_copy(update={"metrics_port": taken.getsockname()[1]})
        with capture_logs() as logs, serving(busy, Probe(READING), []) as port:
            assert port is None
    (line,) = logs
    assert (line["log_level"], line["event"]) == ("error", "metrics cannot be served")


def test_an_unknown_host_is_told_likewise(settings: WorkerSettings) -> None:
    nowhere = settings.model_copy(update={"metrics_host": "nowhere.invalid"})
    with capture_logs() as logs, serving(nowhere, Probe(replace(READING)), []) as port:
        assert port is None
    assert [line["log_level"] for line in logs] == ["error"]
