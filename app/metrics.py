"""What `GET /metrics` tells: the store's figures, the same from every front end, and those of this process.

Where several processes share the port, whichever takes the connection answers. Its own figures bear its id (`pid`), so
that those of two are never taken for one series; `sum` over them is what was seen of all.
"""

import os
from collections.abc import Iterator

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app import figures
from app.disks import disks
from app.settings import FrontEndSettings
from app.traffic import Traffic
from scheduler.errors import SchedulerError
from scheduler.provision import Provisioner
from scheduler.remembered import Remembered
from scheduler.service import Scheduler
from scheduler.tallies import Tallies

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LEAST_SECONDS = 1.0  # how long what the store says is used: several who scrape at once cost it one look

log = structlog.get_logger(__name__)


class Metrics(Collector):
    """All metrics of this front end. Thread-safe."""

    def __init__(
        self, scheduler: Scheduler, settings: FrontEndSettings, version: str, capacity: Provisioner | None
    ) -> None:
        self.traffic = Traffic()
        self._scheduler = scheduler
        self._settings = settings
        self._version = version
        self._capacity = capacity
        self._tallies = Tallies(scheduler.database, settings.policy().retention_seconds)
        self._stored: Remembered[str, list[Metric]] = Remembered(_LEAST_SECONDS)
        self._own = (self.traffic, ProcessCollector(registry=None))

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format, of the type `CONTENT_TYPE`."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. While a store is away, those that come from it are missing."""
        up: dict[str, bool] = {}
        for name, read in (("database", self._of_database), ("blobs", self._of_disks)):
            try:
                stored = self._stored.get(name, read)
            except (SchedulerError, OSError) as error:
                log.warning("metrics without those of a store", store=name, error=str(error))
                up[name] = False
            else:
                up[name] = True
                yield from stored
        yield figures.gauge(
            "reelq_store_up",
            "Whether the store could be asked for what is told here.",
            ["store"],
            (([name], is_up) for name, is_up in up.items()),
        )
        yield figures.gauge("reelq_build_info", "1; its label tells the version.", ["version"], [([self._version], 1)])
        for collector in self._own:
            yield from (_of_process(family) for family in collector.collect())

    def _of_database(self) -> list[Metric]:
        tally = self._tallies.take()
        return [
            *figures.of_queue(tally, self._scheduler.control.state()),
            *figures.of_waits(tally),
            *figures.of_attempts(tally),
            *figures.of_gpus(tally, self._scheduler.fleet.gpus()),
            *(figures.of_capacity(self._capacity.state()) if self._capacity is not None else ()),
        ]

    def _of_disks(self) -> list[Metric]:
        return list(figures.of_disks(disks(self._settings, self._scheduler.blobs)))


def _of_process(family: Metric) -> Metric:
    """Return a metric as this process's own, without the times at which its series began."""
    pid = str(os.getpid())
    family.samples = [
        sample._replace(labels={**sample.labels, "pid": pid})
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    return family
