"""The process that owns one GPU, or its share of one: load the model, then run jobs until told to stop or drained."""

import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from scheduler.errors import SchedulerError
from scheduler.plans import usable
from scheduler.processes import announce_ready, watch_parent
from scheduler.records import Lease, Worker
from scheduler.service import Scheduler
from scheduler.tracing import Tracer, open_tracer
from workers.attempt import Attempt
from workers.devices import DeviceProbe, ProbeAbsent, ProbeError, discover
from workers.endings import Endings
from workers.energy import EnergyAccount
from workers.engine import Engine
from workers.failures import NUMERICAL_FALLBACK
from workers.guard import Guard
from workers.heartbeat import Heartbeat
from workers.hold import Hold
from workers.intake import Intake, Preparer, Want
from workers.lock import alone
from workers.meter import CpuMeter, CudaMeter, Meter
from workers.model_folder import ModelFolderError
from workers.models import ModelChoice, choose, tiny_folder
from workers.publisher import Publisher
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL

log = structlog.get_logger()


def run_gpu_worker(settings: WorkerSettings, *, worker_id: str, gpu_id: str, slot: int = 0) -> None:
    """Serve one GPU until SIGTERM, the end of the parent, or a drain; `slot` tells workers of one GPU apart.

    Raises `ModelFolderError` for a model that can never load, `StoreError` and `ProbeError` for a store or GPU that
    cannot be used.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    watch_parent(lambda: _end_orphan(stopping, settings.shutdown_seconds))
    structlog.contextvars.bind_contextvars(gpu_id=gpu_id, worker_id=worker_id)
    name = f"{gpu_id.replace('/', '_')}-{slot}"
    with Scheduler.open(settings) as scheduler, alone(settings.data_dir / "run" / f"{name}.lock", stopping.is_set):
        if not stopping.is_set():
            scratch = _emptied(settings.data_dir / "scratch" / name)
            worker = GpuWorker(settings, scheduler, scratch, worker_id=worker_id, gpu_id=gpu_id, stopping=stopping)
            worker.serve()


class GpuWorker:
    """One worker process's life, from loading to the last job."""

    def __init__(
        self,
        settings: WorkerSettings,
        scheduler: Scheduler,
        scratch: Path,
        *,
        worker_id: str,
        gpu_id: str,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._scratch = scratch
        self._gpu_id = gpu_id
        self._stopping = stopping
        self._tracer: Tracer = open_tracer("worker")
        self._info = info = scheduler.fleet.gpu(gpu_id).info
        self._probe: DeviceProbe = discover("cpu" if info.kind == "cpu" else "cuda", cpu_budget_bytes=info.total_bytes)
        self._choice: ModelChoice = choose(settings.model, kind=info.kind, models_dir=settings.resolved_models_dir)
        self._on_cpu = info.kind == "cpu"
        # Until it is loaded, the ledger holds what loading is expected to take.
        self._plan, expected = self._first_plan()
        self._worker = Worker(worker_id, gpu_id, os.getpid(), self._choice.served.id, expected, ready=False)

    def serve(self) -> None:
        """Load, then work until stopped or drained; the heartbeat outlives both."""
        self._scheduler.fleet.register_worker(self._worker)
        interval = self._settings.lease_seconds / 4
        heartbeat = Heartbeat(self._worker, self._scheduler.fleet, self._scheduler.leases, interval)
        heartbeat.start()
        try:
            meter: Meter = CpuMeter() if self._on_cpu else CudaMeter(self._probe, self._gpu_id)
            model = self._load()
            meter.trim()

            def register(worker: Worker) -> None:
                heartbeat.became(worker)
                self._scheduler.fleet.register_worker(worker)

            hold = Hold(model, meter, self._worker, register, leak_limit_bytes=self._settings.leak_limit_bytes)
            hold.declare()
            announce_ready()
            log.info(
                "ready", model=self._worker.model, plan=model.execution.plan, resident_bytes=hold.worker.resident_bytes
            )
            self._work(model, hold, heartbeat)
        finally:
            heartbeat.close()
            self._probe.close()
            self._tracer.close()

    def _first_plan(self) -> tuple[str, int]:
        """The fastest plan whose weights fit, and what they take; the others are loaded when a job asks for them."""
        weights_bytes, architecture = self._choice.served.weights_bytes, self._choice.architecture
        room_bytes = self._info.total_bytes - self._info.headroom_bytes
        plans = usable(self._info.plans, allow_int8=True)
        sizes = {plan: architecture.resident_bytes(plan, weights_bytes) for plan in plans}
        return next(((plan, size) for plan, size in sizes.items() if size < room_bytes), (plans[-1], sizes[plans[-1]]))

    def _load(self) -> "I2VGenXL":
        started = time.monotonic()
        from workers.pipelines import runtime
        from workers.pipelines.components import WrongWeights
        from workers.pipelines.i2vgen_xl import I2VGenXL

        folder = self._choice.folder or tiny_folder(self._settings.resolved_models_dir)
        try:
            device = runtime.pick_device("cpu" if self._on_cpu else "cuda")
        except runtime.DeviceUnavailable as error:
            raise ProbeAbsent(str(error)) from error
        runtime.configure(device, cpu_threads=self._settings.cpu_threads)
        cache_dir = self._settings.resolved_models_dir / "compiled" if self._settings.compile else None
        try:
            model = I2VGenXL.load(folder, device=device, plan=self._plan, compile_dir=cache_dir)
        except WrongWeights as error:
            raise ModelFolderError(f"model {folder.path}: {error}") from error
        log.info("model loaded", model=self._choice.served.id, seconds=round(time.monotonic() - started, 2))
        if self._choice.architecture.random_weights:
            log.warning("the model has random weights: its output is noise")
        return model

    def _work(self, model: "I2VGenXL", hold: Hold, heartbeat: Heartbeat) -> None:
        settings, scheduler = self._settings, self._scheduler
        endings = Endings(scheduler, heartbeat, gpu_kind=self._info.kind, tracer=self._tracer)
        publisher = Publisher(scheduler.blobs, endings, scratch=self._scratch, crf=settings.crf)
        with ThreadPoolExecutor(1, thread_name_prefix="saver") as saver:
            preparer = Preparer(
                model,
                self._choice.architecture,
                scheduler,
                heartbeat,
                model_fingerprint=self._choice.served.fingerprint,
                scratch=self._scratch,
                saver=saver,
                checkpoint_seconds=settings.checkpoint_seconds,
                stopping=self._stopping,
            )
            intake = Intake(
                lambda want: self._claim(hold, want),
                preparer,
                scheduler,
                gpu_id=self._gpu_id,
                poll_seconds=settings.poll_seconds,
            )
            engine = Engine(
                model,
                intake,
                publisher,
                hold,
                EnergyAccount(self._energy_joules),
                Guard(model, self._tell),
                synchronous=self._on_cpu,
                stopping=self._stopping.is_set,
                lookahead_seconds=settings.lookahead_seconds,
                batch_jobs=settings.batch_jobs,
                idle_unload_seconds=settings.idle_unload_seconds,
            )

            def stop(*_: object) -> None:
                self._stopping.set()
                intake.look_around()

            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, stop)
            intake.start()
            engine.run()
        if engine.worn is not None:
            log.warning("starting a new process", reason=engine.worn)
            scheduler.fleet.worker_worn(self._worker.id, self._gpu_id, engine.worn)

    def _claim(self, hold: Hold, want: Want) -> Lease | None:
        """Claim what fits beside or after what runs; the GPU counts as free of all that this worker's jobs hold."""
        held_bytes = hold.held_bytes()
        free_bytes = self._probe.read(self._gpu_id).free_bytes
        free_bytes += min(held_bytes, hold.held_bytes())  # what changes hands meanwhile must not count twice
        return self._scheduler.queue.claim(
            self._worker.id, self._gpu_id, free_bytes, lane=want.lane, shape=want.shape, plan=want.plan
        )

    def _energy_joules(self) -> float | None:
        """The GPU's counter; None where it has none, or where other workers use it up too."""
        if self._on_cpu or self._settings.workers_per_gpu > 1:
            return None
        try:
            return self._probe.read(self._gpu_id).energy_joules
        except ProbeError:  # a figure for the records
            return None

    def _tell(self, attempt: Attempt, message: str) -> None:
        try:
            self._scheduler.leases.notice(attempt.lease, NUMERICAL_FALLBACK, message)
        except SchedulerError as error:
            attempt.log.warning("the job could not be told", error=str(error))


def _emptied(folder: Path) -> Path:
    """An empty folder: a worker that was killed could not remove its files. Only the lock's holder may ask."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _end_orphan(stopping: threading.Event, grace_seconds: float) -> None:
    """The parent is gone: end at the next step, or without ceremony when that takes too long."""
    stopping.set()
    time.sleep(grace_seconds)
    os._exit(1)
