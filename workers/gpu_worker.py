"""The process that owns one GPU: load the model, then claim and run jobs until told to stop or drained."""

import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from scheduler.errors import NotFound, StorageFull, StoreUnreachable
from scheduler.processes import announce_ready, watch_parent
from scheduler.records import Worker
from scheduler.service import Scheduler
from scheduler.states import GpuState
from scheduler.wakeup import DISPATCH, Listener
from workers.control import Control
from workers.devices import DeviceProbe, ProbeAbsent, ProbeError, discover
from workers.heartbeat import Heartbeat
from workers.lock import alone
from workers.meter import CpuMeter, CudaMeter, Meter
from workers.model_folder import ModelFolderError
from workers.models import ModelChoice, choose, tiny_folder
from workers.runner import INTERNAL_ERROR, Runner
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL

log = structlog.get_logger()


def run_gpu_worker(settings: WorkerSettings, *, worker_id: str, gpu_id: str) -> None:
    """Serve one GPU until SIGTERM, the end of the parent, or a drain.

    Raises `ModelFolderError` for a model that can never load, `StoreError` and `ProbeError` for a store or GPU that
    cannot be used.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    watch_parent(lambda: _end_orphan(stopping, settings.shutdown_seconds))
    structlog.contextvars.bind_contextvars(gpu_id=gpu_id, worker_id=worker_id)
    name = gpu_id.replace("/", "_")
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
        info = scheduler.fleet.gpu(gpu_id).info
        self._probe: DeviceProbe = discover("cpu" if info.kind == "cpu" else "cuda", cpu_budget_bytes=info.total_bytes)
        self._choice: ModelChoice = choose(settings.model, kind=info.kind, models_dir=settings.resolved_models_dir)
        self._on_cpu = info.kind == "cpu"
        # Until it is loaded, the ledger holds what loading is expected to take.
        expected = self._choice.architecture.resident_bytes(info.plan, self._choice.served.weights_bytes)
        self._worker = Worker(worker_id, gpu_id, os.getpid(), self._choice.served.id, expected, ready=False)

    def serve(self) -> None:
        """Load, then work until stopped or drained; the heartbeat outlives both."""
        self._scheduler.fleet.register_worker(self._worker)
        interval = self._settings.lease_seconds / 4
        heartbeat = Heartbeat(self._worker, self._scheduler.fleet, self._scheduler.leases, interval)
        heartbeat.start()
        try:
            with self._scheduler.wakeup.listen(DISPATCH) as listener:
                meter: Meter = CpuMeter() if self._on_cpu else CudaMeter(self._probe, self._gpu_id)
                runner = self._runner(self._load(), heartbeat, meter)
                meter.trim()
                self._worker = replace(self._worker, resident_bytes=meter.resident_bytes(), ready=True)
                heartbeat.became(self._worker)
                self._scheduler.fleet.register_worker(self._worker)
                announce_ready()
                log.info("ready", model=self._worker.model, resident_bytes=self._worker.resident_bytes)
                self._work(runner, meter, listener)
        finally:
            heartbeat.close()
            self._probe.close()

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
        try:
            model = I2VGenXL.load(folder, device=device, dtype=runtime.pick_dtype(device))
        except WrongWeights as error:
            raise ModelFolderError(f"model {folder.path}: {error}") from error
        log.info("model loaded", model=self._choice.served.id, seconds=round(time.monotonic() - started, 2))
        if self._choice.architecture.random_weights:
            log.warning("the model has random weights: its output is noise")
        return model

    def _runner(self, model: "I2VGenXL", heartbeat: Heartbeat, meter: Meter) -> Runner:
        return Runner(
            model,
            self._choice.architecture,
            self._scheduler,
            heartbeat,
            meter,
            scratch=self._scratch,
            crf=self._settings.crf,
        )

    def _work(self, runner: Runner, meter: Meter, listener: Listener) -> None:
        while not self._stopping.is_set():
            try:
                if self._run_next(runner, meter):
                    continue
                if self._drained():
                    log.info("drained: leaving the GPU")
                    return
            except (StoreUnreachable, StorageFull, ProbeError, NotFound) as error:
                log.warning("cannot take jobs now", error=str(error))
                time.sleep(self._settings.poll_seconds)  # a wake-up would not help
            listener.wait(self._settings.poll_seconds)

    def _run_next(self, runner: Runner, meter: Meter) -> bool:
        """Run the best job that fits; False when there is none."""
        free_bytes = self._probe.read(self._gpu_id).free_bytes + meter.unused_bytes()
        lease = self._scheduler.queue.claim(self._worker.id, self._gpu_id, free_bytes)
        if lease is None:
            return False
        try:
            outcome = runner.run(lease, Control(self._stopping))
        finally:
            meter.trim()
        if outcome == INTERNAL_ERROR and not self._on_cpu:
            # A CUDA error outlives the job that met it: a new process gets a new context.
            log.warning("unexpected failure on a GPU: starting a new process")
            self._stopping.set()
        return True

    def _drained(self) -> bool:
        return self._scheduler.fleet.gpu(self._gpu_id).state is not GpuState.ACTIVE


def _emptied(folder: Path) -> Path:
    """An empty folder: a worker that was killed could not remove its files. Only the GPU's lock holder may ask."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _end_orphan(stopping: threading.Event, grace_seconds: float) -> None:
    """The parent is gone: end at the next step, or without ceremony when that takes too long."""
    stopping.set()
    time.sleep(grace_seconds)
    os._exit(1)
