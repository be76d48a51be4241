"""The supervisor of one host: registers its GPUs, keeps a worker process on each active one, samples them.

It never imports torch. A drained GPU has no process, because a CUDA context alone holds hundreds of MB.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from scheduler.errors import NotFound, StorageFull, StoreUnreachable
from scheduler.processes import announce_ready, watch_parent
from scheduler.records import GpuInfo, GpuSample, ServedModel
from scheduler.service import Scheduler
from scheduler.wakeup import DISPATCH
from workers.devices import DeviceInfo, DeviceLost, DeviceProbe, DeviceReading, ProbeError, discover
from workers.lock import alone
from workers.models import choose
from workers.settings import WorkerSettings
from workers.slot import Slot

log = structlog.get_logger()


def supervise(settings: WorkerSettings) -> None:
    """Serve this host's GPUs until SIGTERM or the end of the parent.

    Raises `ModelFolderError` or `ModelUnusable` for a model that can never load, `ProbeError` when the devices
    cannot be known, `StoreError` for an unusable store.
    """
    stopping = threading.Event()
    registered = threading.Event()

    def stop(*_: object) -> None:
        if not registered.is_set():
            os._exit(0)  # nothing is held yet, and a download would not let go
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    watch_parent(stop)
    # Two supervisors of one data directory would each count only their own processes, and tell the store so.
    with Scheduler.open(settings) as scheduler, alone(settings.data_dir / "run" / "supervisor.lock"):
        slots: list[Slot] = []
        probe = discover(
            settings.device,
            cpu_budget_bytes=settings.cpu_memory_bytes,
            pids=lambda: [pid for slot in slots if (pid := slot.pid) is not None],
        )
        try:
            devices = probe.devices()
            model, gpus = describe(settings, devices)
            register = partial(scheduler.fleet.register, model, gpus)
            register()
            log.info("registered", model=model.id, gpus=[gpu.id for gpu in gpus])
            slots.extend(Slot(settings, scheduler, device) for device in devices)
            registered.set()
            announce_ready()
            Supervisor(settings, scheduler, probe, slots, register).run(stopping)
        finally:
            probe.close()


def describe(settings: WorkerSettings, devices: Sequence[DeviceInfo]) -> tuple[ServedModel, list[GpuInfo]]:
    """Return this host's model and GPUs as the fleet registers them; raises `ModelFolderError`."""
    choice = choose(settings.model, kind=devices[0].kind, models_dir=settings.resolved_models_dir)
    return choice.served, [
        GpuInfo(
            id=device.id,
            host=socket.gethostname(),
            model=choice.served.id,
            kind=device.kind,
            name=device.name,
            plan="fp32" if device.kind == "cpu" else "fp16",
            total_bytes=device.total_bytes,
            headroom_bytes=settings.headroom_bytes,
        )
        for device in devices
    ]


class Supervisor:
    """The loop: tend each slot when something happens, sample each GPU now and then.

    `register` is called again when the fleet has forgotten this host's GPUs.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        scheduler: Scheduler,
        probe: DeviceProbe,
        slots: Sequence[Slot],
        register: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._probe = probe
        self._slots = slots
        self._register = register
        self._sample_at = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping`, then end every worker in order."""
        try:
            with self._scheduler.wakeup.listen(DISPATCH) as listener:
                while not stopping.is_set():
                    self._round()
                    listener.wait(self._settings.poll_seconds)
        finally:
            self._end_workers()

    def _round(self) -> None:
        due = time.monotonic() >= self._sample_at
        if due:
            self._sample_at = time.monotonic() + self._settings.sample_seconds
        for slot in self._slots:
            try:
                self._tend(slot, record=due)
            except (StoreUnreachable, StorageFull) as error:
                log.warning("the store is away, trying again", error=str(error))

    def _tend(self, slot: Slot, *, record: bool) -> None:
        try:
            slot.tend(self._look(slot, record=record) if record or slot.leaving else None)
        except NotFound as error:  # this host was away for longer than the fleet remembers a GPU
            log.warning("forgotten meanwhile, registering again", error=str(error))
            self._register()

    def _look(self, slot: Slot, *, record: bool) -> DeviceReading | None:
        """Read one GPU; memory that is not known is recorded as a problem, never as a number."""
        reading, look = None, None
        try:
            reading = self._probe.read(slot.device.id)
        except ProbeError as error:
            look = GpuSample(None, None, problem=str(error))
            if record:
                log.warning("GPU cannot be read", gpu_id=slot.device.id, error=str(error))
            if isinstance(error, DeviceLost):
                self._scheduler.fleet.fault(slot.device.id, str(error))
        else:
            look = GpuSample(
                reading.used_bytes, reading.free_bytes, reading.utilization_percent, reading.temperature_celsius
            )
        if record:
            self._scheduler.fleet.sample(slot.device.id, look)
        return reading

    def _end_workers(self) -> None:
        for slot in self._slots:
            slot.stop()
        deadline = time.monotonic() + self._settings.shutdown_seconds
        for slot in self._slots:
            try:
                slot.finish(max(0.0, deadline - time.monotonic()))
            except (StoreUnreachable, StorageFull) as error:  # the reaper will find what the worker held
                log.warning("the store is away: the worker's end is not recorded", error=str(error))
