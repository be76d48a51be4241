"""Peak resident memory: exact by the kernel's high-water mark, or by a thread that looks often."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from workers.devices.resident import PeakResident, resident_bytes

MIB = 1 << 20

needs_clear_refs = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="no writable /proc/self/clear_refs here"
)


def spike(size_bytes: int) -> None:
    """Hold `size_bytes` of touched memory for a moment; so large a block is unmapped again at once."""
    held = b"x" * size_bytes
    del held


def test_resident_bytes_of_this_and_of_no_process() -> None:
    held = b"x" * (64 * MIB)
    assert resident_bytes() >= len(held)
    assert resident_bytes(os.getpid()) == pytest.approx(resident_bytes(), rel=0.1)
    with pytest.raises(psutil.NoSuchProcess):
        resident_bytes(2**22 + 1)  # above the kernel's largest pid


@needs_clear_refs
def test_the_kernel_sees_a_peak_that_is_over_and_forgets_it_at_reset() -> None:
    with PeakResident() as peak:
        assert peak.method == "kernel"
        before = resident_bytes()
        spike(96 * MIB)
        assert peak.peak_bytes() - before >= 90 * MIB
        assert resident_bytes() - before < 48 * MIB
        peak.reset()
        assert peak.peak_bytes() - before < 48 * MIB


def scripted(sizes: list[int]) -> tuple[Callable[[], int], threading.Event]:
    """A reader that goes through `sizes` and stays at the last one; the event says it got there."""
    remaining, done = iter(sizes[:-1]), threading.Event()

    def read() -> int:
        size = next(remaining, None)
        if size is None:
            done.set()
            return sizes[-1]
        return size

    return read, done


def test_without_the_kernel_a_thread_samples(tmp_path: Path) -> None:
    read, done = scripted([10, 50, 900, 40])
    with PeakResident(proc=tmp_path, interval_seconds=0.001, read=read) as peak:
        assert peak.method == "sampled"
        assert done.wait(timeout=30)
        assert peak.peak_bytes() == 900
        peak.reset()
        assert peak.peak_bytes() == 40
    assert list(tmp_path.iterdir()) == []


def test_sampling_really_measures_this_process(tmp_path: Path) -> None:
    with PeakResident(proc=tmp_path) as peak:
        before = resident_bytes()
        held = b"x" * (96 * MIB)
        assert peak.peak_bytes() - before >= 90 * MIB
        del held
        assert peak.peak_bytes() - before >= 90 * MIB


def test_closing_ends_the_thread_and_keeps_the_peak(tmp_path: Path) -> None:
    read, done = scripted([10, 900, 40])
    peak = PeakResident(proc=tmp_path, interval_seconds=0.001, read=read)
    assert done.wait(timeout=30)
    peak.close()
    peak.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "peak-resident"]
    assert peak.peak_bytes() == 900


def test_a_mark_that_cannot_be_read_is_sampled_instead(tmp_path: Path) -> None:
    (tmp_path / "clear_refs").write_bytes(b"")
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t10 kB\n")
    with PeakResident(proc=tmp_path, read=lambda: 7) as peak:
        assert peak.method == "sampled"
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  12 kB\n")
    with PeakResident(proc=tmp_path) as peak:
        assert peak.method == "kernel"
        assert peak.peak_bytes() == 12 * 1024
    assert (tmp_path / "clear_refs").read_bytes() == b"5"
