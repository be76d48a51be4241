"""A place for one worker process on a GPU: start it, replace it when it ends or is stuck, leave when the GPU drains."""

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import structlog

from scheduler.errors import StorageFull, StoreUnreachable
from scheduler.hangs import WorkerWatch
from scheduler.ids import new_id
from scheduler.leases import WORKER_LOST
from scheduler.processes import EXIT_CONFIG, Backoff, Child
from scheduler.service import Scheduler
from scheduler.states import GpuState
from workers import last_words
from workers.devices import DeviceInfo, DeviceReading
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from scheduler.records import JobError

log = structlog.get_logger()

_MAX_SHORT_LIVES = 5  # in a row; then the GPU is faulted
_LASTING_SECONDS = 60.0  # a worker that is ready for so long has lasted
_MEMORY_RETURN_SECONDS = 10.0  # how long a driver may take to give an ended process's memory back


class ModelUnusable(Exception):
    """A worker found that the model can never load; its own line on stderr says why."""


class Slot:
    """Keeps at most one worker process on one GPU; `number` tells the slots of a GPU apart."""

    def __init__(self, settings: WorkerSettings, scheduler: Scheduler, device: DeviceInfo, number: int = 0) -> None:
        self.device = device
        self._number = number
        self._settings = settings
        self._scheduler = scheduler
        self._child: Child | None = None
        self._worker_id = ""
        self._watch: WorkerWatch | None = None  # None once the worker has been killed,
        self._verdict: JobError | None = None  # and why that was
        self._look_at = 0.0
        self._jobs: frozenset[str] = frozenset()  # what the worker was last seen with
        self._ready_at: float | None = None
        self._backoff = Backoff()
        self._short_lives = 0
        self._blamed: frozenset[str] = frozenset()  # the jobs that the workers of those short lives had
        self._start_at = 0.0
        self._leaving_until: float | None = None
        self._ghost_pid: int | None = None  # a process that has ended, but perhaps not for the driver

    @property
    def pid(self) -> int | None:
        """The worker process's id, while there is one."""
        return self._child.pid if self._child else None

    @property
    def leaving(self) -> bool:
        """Whether a worker has ended whose memory the GPU may not have back yet."""
        return self._leaving_until is not None

    @property
    def ended(self) -> bool:
        """Whether the worker has ended and `tend` has not dealt with that yet."""
        return self._child is not None and self._leaving_until is None and self._child.exit_code() is not None

    def ghost(self, reading: DeviceReading) -> str | None:
        """Say whose memory was waited for in vain and, by this look at the GPU, may still not be free."""
        if self._ghost_pid not in reading.processes:
            self._ghost_pid = None
        if self._ghost_pid is None:
            return None
        return f"the worker process {self._ghost_pid} has ended, and the driver still lists it"

    def tend(self, reading: DeviceReading | None) -> None:
        """Do what is due: `reading` is the latest look at the GPU, None where it could not be had.

        Raises `ModelUnusable` when starting a worker again could not help.
        """
        if self._child is not None:
            self._tend_child(self._child, reading)
        elif time.monotonic() >= self._start_at and self._wanted():
            self._start()

    def evict(self) -> None:
        """End the worker at once because its GPU failed: its jobs are taken back, and no attempt is burned."""
        if self._child is None or self._watch is None or self._leaving_until is not None:
            return
        released = self._scheduler.leases.release_worker(self._worker_id)  # before the signal: see `_look_after`
        log.warning("worker evicted", **self._place, pid=self._child.pid, jobs_taken_back=len(released))
        if self._child.exit_code() is None:
            os.kill(self._child.pid, signal.SIGKILL)
        self._watch = None

    def stop(self) -> None:
        """Ask the worker to end its step, give its job back and exit."""
        if self._child is not None:
            self._child.terminate()

    def finish(self, grace_seconds: float) -> None:
        """Wait for the end that `stop` asked for, kill what is still there, and take back what it held."""
        if self._child is not None:
            code = self._child.finish(grace_seconds)
            log.info("worker ended", **self._place, exit_code=code)
            self._child = None
            # What it could not give back itself burns no attempt.
            self._scheduler.leases.release_worker(self._worker_id)
            self._scheduler.fleet.worker_gone(self._worker_id)

    @property
    def _place(self) -> dict[str, str | int]:
        return {"gpu_id": self.device.id, "slot": self._number}

    def _wanted(self) -> bool:
        return self._scheduler.fleet.gpu(self.device.id).state is GpuState.ACTIVE

    def _start(self) -> None:
        self._worker_id = new_id("worker")
        command = [
            *(sys.executable, "-m", "workers", "gpu-worker"),
            *("--gpu", self.device.id, "--slot", str(self._number), "--worker-id", self._worker_id),
        ]
        try:
            self._child = Child(command, self._settings.environment() | self._device_environment())
        except OSError as error:  # no process or memory to be had now
            self._start_at = time.monotonic() + self._backoff.failed()
            log.warning("worker cannot be started, trying again", **self._place, error=str(error))
            return
        self._ready_at, self._jobs, self._ghost_pid, self._verdict = None, frozenset(), None, None
        pause_seconds = self._settings.lease_seconds + self._settings.poll_seconds
        self._watch = WorkerWatch(self._settings.policy(), pause_seconds)
        log.info("worker started", **self._place, worker_id=self._worker_id, pid=self._child.pid)

    def _device_environment(self) -> dict[str, str]:
        if self.device.kind == "cpu":
            # OpenMP's threads spin while they wait for each other. On a machine that does anything else besides, steps
            # then take three to ten times as long; asleep, they cost about a tenth on an idle one.
            return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
        return {"CUDA_VISIBLE_DEVICES": self.device.id}

    def _tend_child(self, child: Child, reading: DeviceReading | None) -> None:
        code = child.exit_code()
        if code is None:
            if self._ready_at is None and child.ready.is_set():
                self._ready_at = time.monotonic()
            if self._watch is not None and time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + self._settings.poll_seconds
                self._look_after(child, self._watch)
            return
        if self._leaving_until is None:
            self._ended(child, code)
        if reading is None or child.pid in reading.processes:
            if time.monotonic() < (self._leaving_until or 0.0):
                # `drained` has to mean that the memory is free; until then nobody may take the worker for forgotten.
                self._scheduler.fleet.touch_worker(self._worker_id)
                return
            self._ghost_pid = child.pid
            log.warning("an ended worker's memory may not be free", **self._place, pid=child.pid)
        self._child, self._leaving_until = None, None
        self._scheduler.fleet.worker_gone(self._worker_id)

    def _look_after(self, child: Child, watch: WorkerWatch) -> None:
        """Kill a worker that is stuck, or condemned; its end is then dealt with as any other."""
        look = self._scheduler.fleet.look_at_worker(self.device.id, self._worker_id)
        self._jobs = frozenset(stint.job_id for stint in look.stints) or self._jobs
        error = watch.verdict(look, ready=child.ready.is_set())
        if error is None:
            return
        self._verdict = error
        lost: list[str] = []
        try:
            # Before the signal, so that nothing the process might still write is accepted.
            lost = self._scheduler.leases.expire_worker(self._worker_id, error)
        except (StoreUnreachable, StorageFull) as away:
            # Perhaps just because the process was stopped while it wrote: it holds the lock of an embedded database.
            log.warning("the worker's jobs are taken back after its end", **self._place, error=str(away))
        log.warning("worker killed", **self._place, pid=child.pid, reason=error.message, jobs_taken_back=len(lost))
        os.kill(child.pid, signal.SIGKILL)  # nobody has waited for it yet, so the id is still its own
        self._watch = None

    def _ended(self, child: Child, code: int) -> None:
        """Deal with the end once: give its jobs to others at once, then decide about the next start."""
        lost = self._scheduler.leases.expire_worker(self._worker_id, self._verdict or WORKER_LOST)
        left = code == 0 and not self._wanted()
        said = last_words.take(self._settings.data_dir, self._worker_id)
        log.info("worker ended", **self._place, exit_code=code, said=said, jobs_taken_back=len(lost))
        child.close()
        self._leaving_until = time.monotonic() + _MEMORY_RETURN_SECONDS
        if code == EXIT_CONFIG:
            raise ModelUnusable("the worker cannot load its model")
        lasted = self._ready_at is not None and time.monotonic() - self._ready_at >= _LASTING_SECONDS
        if lasted or self._watch is None or left:
            self._start_afresh()
        else:
            self._died_young(code, said, self._jobs.union(lost))

    def _died_young(self, code: int, said: str | None, jobs: frozenset[str]) -> None:
        """Space out the next starts; a GPU on which no worker lasts is faulted.

        One job that ends worker after worker is no evidence against the GPU: its attempts are counted, and run out.
        """
        self._start_at = time.monotonic() + self._backoff.failed()
        if not jobs & self._blamed:
            self._short_lives += 1
        self._blamed |= jobs
        if self._short_lives >= _MAX_SHORT_LIVES:
            reason = (
                f"{self._short_lives} workers in a row ended before they had been ready for {_LASTING_SECONDS:.0f} s, "
                f"the last with {_told(code)}{f': {said}' if said else ''}"
            )
            self._scheduler.fleet.fault(self.device.id, reason)
            log.error("GPU faulted", **self._place, reason=reason)
            self._start_afresh()

    def _start_afresh(self) -> None:
        self._backoff.succeeded()
        self._start_at, self._short_lives, self._blamed = 0.0, 0, frozenset()


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
