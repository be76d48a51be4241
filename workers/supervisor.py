"""The supervisor of one host: registers its GPUs, keeps worker processes on each active one, samples them.

It never imports torch. A drained GPU has no process, because a CUDA context alone holds hundreds of MB.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import structlog

from scheduler.errors import NotFound, StorageFull, StoreUnreachable
from scheduler.processes import announce_ready, watch_parent
from scheduler.records import Gpu, GpuInfo, GpuSample, ServedModel
from scheduler.service import Scheduler
from scheduler.states import GpuState
from scheduler.wakeup import DISPATCH
from workers import metrics
from workers.devices import DeviceInfo, DeviceLost, DeviceProbe, DeviceReading, ProbeError, discover
from workers.lock import alone
from workers.models import choose
from workers.settings import WorkerSettings
from workers.slot import Slot

log = structlog.get_logger()


def supervise(settings: WorkerSettings) -> None:
    """Serve this host's GPUs until SIGTERM or the end of the parent.

    Raises `ModelFolderError` or `ModelUnusable` for a model that can never load, `ProbeError` when the devices
    cannot be known, `StoreError` for an unusable store, `CalibrationError` for an unreadable calibration file.
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
            if settings.calibration is not None:
                count = scheduler.footprints.import_calibration(settings.calibration)
                log.info("calibration imported", file=str(settings.calibration), new_measurements=count)
            log.info("registered", model=model.id, gpus=[gpu.id for gpu in gpus])
            shares = range(settings.workers_per_gpu)
            slots.extend(Slot(settings, scheduler, device, number) for device in devices for number in shares)
            registered.set()
            announce_ready()
            with metrics.serving(settings, probe, slots):
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
            plans=settings.plans_for(device.kind),
            total_bytes=device.total_bytes,
            headroom_bytes=settings.headroom_bytes,
        )
        for device in devices
    ]


class Supervisor:
    """The loop: tend each slot when something happens, sample each GPU now and then, take broken GPUs out of service.

    `slots` are in the order of their GPUs. `register` is called again when the fleet has forgotten this host's GPUs.
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
        self._gpus = {gpu_id: tuple(on_it) for gpu_id, on_it in groupby(slots, key=lambda slot: slot.device.id)}
        self._register = register
        self._sample_at = 0.0
        self._faults: dict[str, str] = {}  # what is wrong with GPUs that the store does not know of yet
        self._crowded: set[str] = set()  # GPUs where strangers hold more than the headroom

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
        self._hear_of_faults()
        for gpu_id, slots in self._gpus.items():
            try:
                self._tend(gpu_id, slots, record=due)
            except (StoreUnreachable, StorageFull) as error:
                log.warning("the store is away, trying again", error=str(error))

    def _hear_of_faults(self) -> None:
        try:
            for fault in self._probe.faults():
                self._faults.setdefault(fault.device_id, fault.reason)
        except ProbeError as error:
            log.debug("nothing can be heard of faults", error=str(error))  # readings fail too, and are recorded

    def _tend(self, gpu_id: str, slots: Sequence[Slot], *, record: bool) -> None:
        try:
            # A worker may have ended because its GPU is lost: then its jobs are given back another way.
            look = record or any(slot.leaving or slot.ended for slot in slots)
            reading = self._look(gpu_id, slots, record=record) if look else None
            if gpu_id in self._faults:
                self._take_out(gpu_id, slots)
            for slot in slots:
                slot.tend(reading)
        except NotFound as error:  # this host was away for longer than the fleet remembers a GPU
            log.warning("forgotten meanwhile, registering again", error=str(error))
            self._register()

    def _take_out(self, gpu_id: str, slots: Sequence[Slot]) -> None:
        """Fault a GPU, and end its workers. First the state, or a worker could claim another job in between."""
        reason = self._faults[gpu_id]
        if self._scheduler.fleet.gpu(gpu_id).state is GpuState.ACTIVE:
            self._scheduler.fleet.fault(gpu_id, reason)
            log.error("GPU faulted", gpu_id=gpu_id, reason=reason)
        for slot in slots:
            slot.evict()
        del self._faults[gpu_id]

    def _look(self, gpu_id: str, slots: Sequence[Slot], *, record: bool) -> DeviceReading | None:
        """Read one GPU; memory that is not known is recorded as a problem, never as a number."""
        try:
            reading = self._probe.read(gpu_id)
        except ProbeError as error:
            if isinstance(error, DeviceLost):
                self._faults.setdefault(gpu_id, str(error))
            if record:
                log.warning("GPU cannot be read", gpu_id=gpu_id, error=str(error))
                self._scheduler.fleet.sample(gpu_id, GpuSample(None, None, problem=str(error)))
            return None
        if record:
            self._record(gpu_id, slots, reading)
        return reading

    def _record(self, gpu_id: str, slots: Sequence[Slot], reading: DeviceReading) -> None:
        gpu = self._scheduler.fleet.gpu(gpu_id)
        foreign_bytes = self._count_strangers(gpu, reading)
        ghosts = [ghost for slot in slots if (ghost := slot.ghost(reading)) is not None]
        if ghosts and gpu.state is not GpuState.ACTIVE:  # on an active one the claims see that the memory is not free
            look = GpuSample(None, None, problem="; ".join(ghosts))
        else:
            look = GpuSample(
                reading.used_bytes,
                reading.free_bytes,
                reading.utilization_percent,
                reading.temperature_celsius,
                foreign_bytes=foreign_bytes,
                power_watts=reading.power_watts,
            )
        self._scheduler.fleet.sample(gpu_id, look)

    def _count_strangers(self, gpu: Gpu, reading: DeviceReading) -> int:
        """Return the bytes that others hold, and tell the log when it becomes much: there is less to offer then."""
        ours = {worker.pid: worker.resident_bytes for worker in gpu.workers}
        pids = {worker.id: worker.pid for worker in gpu.workers}
        for lease in gpu.leases:
            if lease.worker_id in pids:
                ours[pids[lease.worker_id]] += lease.reserved_bytes
        foreign_bytes = reading.foreign_bytes(ours)
        crowded = foreign_bytes > gpu.info.headroom_bytes
        if crowded != (gpu.info.id in self._crowded):
            self._crowded ^= {gpu.info.id}
            told = "others hold memory of this GPU" if crowded else "others hold no memory of this GPU any more"
            log.warning(told, gpu_id=gpu.info.id, foreign_bytes=foreign_bytes)
        return foreign_bytes

    def _end_workers(self) -> None:
        slots = [slot for on_it in self._gpus.values() for slot in on_it]
        for slot in slots:
            slot.stop()
        deadline = time.monotonic() + self._settings.shutdown_seconds
        for slot in slots:
            try:
                slot.finish(max(0.0, deadline - time.monotonic()))
            except (StoreUnreachable, StorageFull) as error:  # the reaper will find what the worker held
                log.warning("the store is away: the worker's end is not recorded", error=str(error))
