"""Resident memory of processes, now and at its peak: what stands for device memory on a CPU."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil


def resident_bytes(pid: int | None = None) -> int:
    """Resident set size of process `pid`, or of this one; shared pages count in each process that maps them.

    Raises psutil.NoSuchProcess or psutil.AccessDenied.
    """
    return int(psutil.Process(pid).memory_info().rss)


class PeakResident:
    """The highest resident size of this process since `reset()`.

    `method` says how it is known. "kernel" is exact: writing 5 to /proc/self/clear_refs sets the high-water
    mark VmHWM of /proc/self/status back to the current size (Linux, proc_pid_clear_refs(5)). Where that write
    is refused, as in some sandboxes, "sampled": a thread looks every 5 ms and can miss a shorter peak. The
    mark belongs to the process, so one PeakResident may be in use at a time. `close()` ends the thread.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc/self"),
        interval_seconds: float = 0.005,
        read: Callable[[], int] = resident_bytes,
    ) -> None:
        self._proc = proc
        self._interval_seconds = interval_seconds
        self._read = read
        self._sampler: _Sampler | None = None
        self.method: Literal["kernel", "sampled"] = "kernel"
        self.reset()

    def reset(self) -> None:
        """Start again from the current size."""
        self.close()
        try:
            _clear_high_water_mark(self._proc)
            _high_water_mark_bytes(self._proc)  # a mark that cannot be read is no better than none
            self.method = "kernel"
        except OSError:
            self.method = "sampled"
            self._sampler = _Sampler(self._read, self._interval_seconds)

    def peak_bytes(self) -> int:
        """The peak since `reset()`, in bytes; after `close()` a sampled peak is the last one seen."""
        if self._sampler is not None:
            return self._sampler.peak_bytes()
        return _high_water_mark_bytes(self._proc)

    def close(self) -> None:
        """End the sampling thread, if there is one."""
        if self._sampler is not None:
            self._sampler.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Sampler:
    """A thread that reads a size again and again and keeps the highest."""

    def __init__(self, read: Callable[[], int], interval_seconds: float) -> None:
        self._read = read
        self._interval_seconds = interval_seconds
        self._peak_bytes = read()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="peak-resident", daemon=True)
        self._thread.start()

    def peak_bytes(self) -> int:
        if not self._stopped.is_set():
            self._look()
        with self._lock:
            return self._peak_bytes

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_seconds):
            self._look()

    def _look(self) -> None:
        size = self._read()
        with self._lock:
            self._peak_bytes = max(self._peak_bytes, size)


def _clear_high_water_mark(proc: Path) -> None:
    # os.open without O_CREAT: a machine without this file must be refused, not given one.
    descriptor = os.open(proc / "clear_refs", os.O_WRONLY)
    try:
        os.write(descriptor, b"5")
    finally:
        os.close(descriptor)


def _high_water_mark_bytes(proc: Path) -> int:
    for line in (proc / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            kibibytes, unit = value.split()
            if unit != "kB":
                raise ValueError(f"{proc}/status: VmHWM in {unit}, expected kB")
            return int(kibibytes) * 1024
    raise OSError(f"{proc}/status: no VmHWM line")
