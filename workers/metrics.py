"""This host's metrics for Prometheus, on a port of their own: its GPUs as they are now, and its worker processes.

Nobody is asked for a key, so beyond loopback the network has to keep strangers out. There is nothing of jobs here.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import psutil
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.devices import DeviceInfo, DeviceProbe, DeviceReading, ProbeError
from workers.settings import WorkerSettings

log = structlog.get_logger()


class Place(Protocol):
    """A place for a worker process on a device, as `workers.slot` has it."""

    device: DeviceInfo

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        ...


@contextmanager
def serving(settings: WorkerSettings, probe: DeviceProbe, places: Sequence[Place]) -> Iterator[int | None]:
    """Serve the metrics of this host meanwhile, where the settings name a port; yields the port, or None.

    A port that cannot be opened is told to the log, and does not keep the GPUs from their work.
    """
    if settings.metrics_port is None:
        yield None
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostMetrics(settings, probe, places))
    ProcessCollector(registry=registry)
    where = {"host": settings.metrics_host, "port": settings.metrics_port}
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:  # also a host without an address
        log.error("metrics cannot be served", **where, error=str(error))  # noqa: TRY400  one line says it all
        yield None
        return
    log.info("serving metrics", **where | {"port": server.server_port})
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class HostMetrics(Collector):
    """What the devices of a host and the worker processes in `places` are doing. Thread-safe."""

    def __init__(self, settings: WorkerSettings, probe: DeviceProbe, places: Sequence[Place]) -> None:
        self._settings = settings
        self._probe = probe
        self._places = places

    def collect(self) -> Iterator[Metric]:
        """Look at everything now. What a device cannot tell is missing."""
        devices = list(dict.fromkeys(place.device.id for place in self._places))
        readings = {device: self._read(device) for device in devices}
        readable = GaugeMetricFamily("reelq_device_readable", "Whether the device tells its memory.", labels=["gpu"])
        for device, reading in readings.items():
            readable.add_metric([device], reading is not None)
        yield readable
        for family, look in _of_a_device():
            for device, reading in readings.items():
                value = None if reading is None else look(reading)
                if value is not None:
                    family.add_metric([device], value)
            yield family
        yield from self._of_workers()
        disk = GaugeMetricFamily("reelq_host_disk_free_bytes", "Free bytes of the disk of the data directory.")
        disk.add_metric([], shutil.disk_usage(self._settings.data_dir).free)
        yield disk

    def _read(self, device: str) -> DeviceReading | None:
        try:
            return self._probe.read(device)
        except ProbeError:  # the supervisor logs it; here it is `reelq_device_readable`
            return None

    def _of_workers(self) -> Iterator[Metric]:
        labels = ["gpu", "slot"]
        began = GaugeMetricFamily(
            "reelq_worker_start_time_seconds",
            "When the worker process started, in seconds since 1970: it changes with each restart.",
            labels=labels,
        )
        resident = GaugeMetricFamily(
            "reelq_worker_resident_memory_bytes", "Memory of this machine that the process holds.", labels=labels
        )
        cpu = CounterMetricFamily("reelq_worker_cpu_seconds", "CPU time of the worker process.", labels=labels)
        slots: Counter[str] = Counter()
        for place in self._places:
            where = [place.device.id, str(slots[place.device.id])]
            slots[place.device.id] += 1
            pid = place.pid
            if pid is None:
                continue
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times, memory, created_at = process.cpu_times(), process.memory_info(), process.create_time()
            except psutil.Error:  # it has ended meanwhile
                continue
            began.add_metric(where, created_at)
            resident.add_metric(where, memory.rss)
            cpu.add_metric(where, times.user + times.system)
        yield from (began, resident, cpu)


Look = Callable[[DeviceReading], float | None]


def _of_a_device() -> Iterator[tuple[GaugeMetricFamily | CounterMetricFamily, Look]]:
    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"reelq_device_{name}", text, labels=["gpu"])

    yield gauge("memory_total_bytes", "Memory that the device has."), lambda look: look.total_bytes
    yield gauge("memory_used_bytes", "Memory in use, by whomever."), lambda look: look.used_bytes
    yield gauge("processes", "Processes that hold its memory."), lambda look: len(look.processes)
    yield (
        gauge("utilization_ratio", "Share of the last moments in which the device computed, from 0 to 1."),
        lambda look: None if look.utilization_percent is None else look.utilization_percent / 100,
    )
    yield gauge("temperature_celsius", "Temperature."), lambda look: look.temperature_celsius
    yield gauge("power_watts", "Power that the board draws."), lambda look: look.power_watts
    energy = CounterMetricFamily(
        "reelq_device_energy_joules", "Energy used since the driver was loaded.", labels=["gpu"]
    )
    yield energy, lambda look: look.energy_joules
