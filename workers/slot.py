"""One GPU's place for a worker process: start it, replace it when it ends or is stuck, leave the GPU when it drains."""

import os
import signal
import sys
import time

import structlog

from scheduler.hangs import WorkerWatch
from scheduler.ids import new_id
from scheduler.processes import EXIT_CONFIG, Backoff, Child
from scheduler.service import Scheduler
from scheduler.states import GpuState
from workers.devices import DeviceInfo, DeviceReading
from workers.settings import WorkerSettings

log = structlog.get_logger()

_MAX_FAILED_STARTS = 5  # in a row; then the GPU is faulted
_LASTING_SECONDS = 20.0  # after so long a life, the next start is a fresh one
_MEMORY_RETURN_SECONDS = 10.0  # how long a driver may take to give an ended process's memory back


class ModelUnusable(Exception):
    """A worker found that the model can never load; its own line on stderr says why."""


class Slot:
    """Keeps at most one worker process on one GPU."""

    def __init__(self, settings: WorkerSettings, scheduler: Scheduler, device: DeviceInfo) -> None:
        self.device = device
        self._settings = settings
        self._scheduler = scheduler
        self._child: Child | None = None
        self._worker_id = ""
        self._watch: WorkerWatch | None = None  # None once the worker has been killed
        self._look_at = 0.0
        self._backoff = Backoff()
        self._failed_starts = 0
        self._started_at = 0.0
        self._start_at = 0.0
        self._leaving_until: float | None = None

    @property
    def pid(self) -> int | None:
        """The worker process's id, while there is one."""
        return self._child.pid if self._child else None

    @property
    def leaving(self) -> bool:
        """Whether a worker has ended whose memory the GPU may not have back yet."""
        return self._leaving_until is not None

    def tend(self, reading: DeviceReading | None) -> None:
        """Do what is due: `reading` is the latest look at the GPU, None where it could not be had.

        Raises `ModelUnusable` when starting a worker again could not help.
        """
        if self._child is not None:
            self._tend_child(self._child, reading)
        elif time.monotonic() >= self._start_at and self._wanted():
            self._start()

    def stop(self) -> None:
        """Ask the worker to end its step, give its job back and exit."""
        if self._child is not None:
            self._child.terminate()

    def finish(self, grace_seconds: float) -> None:
        """Wait for the end that `stop` asked for, kill what is still there, and take back what it held."""
        if self._child is not None:
            code = self._child.finish(grace_seconds)
            log.info("worker ended", gpu_id=self.device.id, exit_code=code)
            self._child = None
            self._scheduler.leases.release_worker(
                self._worker_id
            )  # what it could not give back itself burns no attempt
            self._scheduler.fleet.worker_gone(self._worker_id)

    def _wanted(self) -> bool:
        return self._scheduler.fleet.gpu(self.device.id).state is GpuState.ACTIVE

    def _start(self) -> None:
        self._worker_id = new_id("worker")
        command = [
            *(sys.executable, "-m", "workers", "gpu-worker"),
            *("--gpu", self.device.id, "--worker-id", self._worker_id),
        ]
        try:
            self._child = Child(command, self._settings.environment() | self._device_environment())
        except OSError as error:  # no process or memory to be had now
            self._start_at = time.monotonic() + self._backoff.failed()
            log.warning("worker cannot be started, trying again", gpu_id=self.device.id, error=str(error))
            return
        self._started_at = time.monotonic()
        pause_seconds = self._settings.lease_seconds + self._settings.poll_seconds
        self._watch = WorkerWatch(self._settings.policy(), pause_seconds)
        log.info("worker started", gpu_id=self.device.id, worker_id=self._worker_id, pid=self._child.pid)

    def _device_environment(self) -> dict[str, str]:
        if self.device.kind == "cpu":
            # OpenMP's threads spin while they wait for each other. On a machine that does anything else besides, steps
            # then take three to ten times as long; asleep, they cost about a tenth on an idle one.
            return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
        return {"CUDA_VISIBLE_DEVICES": self.device.id}

    def _tend_child(self, child: Child, reading: DeviceReading | None) -> None:
        code = child.exit_code()
        if code is None:
            if self._watch is not None and time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + self._settings.poll_seconds
                self._look_after(child, self._watch)
            return
        if self._leaving_until is None:
            self._ended(child, code)
        holds_memory = reading is None or child.pid in reading.processes
        if holds_memory and time.monotonic() < (self._leaving_until or 0.0):
            # `drained` has to mean that the memory is free; until then nobody may take the worker for forgotten.
            self._scheduler.fleet.touch_worker(self._worker_id)
            return
        self._child, self._leaving_until = None, None
        self._scheduler.fleet.worker_gone(self._worker_id)

    def _look_after(self, child: Child, watch: WorkerWatch) -> None:
        """Kill a worker that is stuck, or condemned; its end is then dealt with as any other."""
        look = self._scheduler.fleet.look_at_worker(self.device.id, self._worker_id)
        error = watch.verdict(look, ready=child.ready.is_set())
        if error is None:
            return
        # Before the signal, so that nothing the process might still write is accepted.
        lost = self._scheduler.leases.expire_worker(self._worker_id, error)
        log.warning("worker killed", gpu_id=self.device.id, pid=child.pid, reason=error.message, jobs_taken_back=lost)
        os.kill(child.pid, signal.SIGKILL)  # nobody has waited for it yet, so the id is still its own
        self._watch = None

    def _ended(self, child: Child, code: int) -> None:
        """Deal with the end once: give its jobs to others at once, then decide about the next start."""
        lost = self._scheduler.leases.expire_worker(self._worker_id)
        log.info("worker ended", gpu_id=self.device.id, exit_code=code, jobs_taken_back=lost)
        child.close()
        self._leaving_until = time.monotonic() + _MEMORY_RETURN_SECONDS
        if code == EXIT_CONFIG:
            raise ModelUnusable("the worker cannot load its model")
        if code == 0 or time.monotonic() - self._started_at >= _LASTING_SECONDS:
            self._backoff.succeeded()
            self._failed_starts, self._start_at = 0, 0.0
            return
        self._start_at = time.monotonic() + self._backoff.failed()
        self._failed_starts = 0 if child.ready.is_set() else self._failed_starts + 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._fault(f"the worker failed to start {self._failed_starts} times, last with exit code {code}")

    def _fault(self, reason: str) -> None:
        self._scheduler.fleet.fault(self.device.id, reason)
        log.error("GPU faulted", gpu_id=self.device.id, reason=reason)
        self._backoff.succeeded()
        self._failed_starts = 0
