"""A fake `libnvidia-ml.so.1`: the real NVML bindings run against GPUs that a small control file describes.

For a process of its own, start it with `environment(build(folder), control)`; inside the test's own process,
use `loaded`. Either way `configure(control, …)` says what NVML answers from the next call on.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pynvml
import pytest

SONAME = "libnvidia-ml.so.1"
GIB = 1 << 30


WHOLE_GPU = 0xFFFFFFFF


@dataclass(frozen=True)
class FakeSlice:
    """A MIG device; its fields mean what a GPU's do. `instance` is its GPU instance."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    instance: int = 1
    total_bytes: int = 40 * GIB
    used_bytes: int = 0
    reserved_bytes: int = 0
    compute: Mapping[int, int | None] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FakeGpu:
    """One GPU. Processes map a pid to its bytes, or to None where NVML does not know them.

    `free_bytes` is what used and reserved memory leave, unless given. With `slices` it is in MIG mode; None is a place
    without one. `errors` maps an NVML function, as named in fake_nvml.c, to the error code it returns for this GPU.
    """

    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "NVIDIA H100 80GB HBM3"
    total_bytes: int = 80 * GIB
    used_bytes: int = 0
    reserved_bytes: int = 0
    free_bytes: int | None = None
    compute: Mapping[int, int | None] = field(default_factory=dict)
    graphics: Mapping[int, int | None] = field(default_factory=dict)
    utilization_percent: int = 0
    temperature_celsius: int = 30
    power_milliwatts: int = 70_000
    energy_millijoules: int = 0
    remap_failed: bool = False
    slices: Sequence[FakeSlice | None] | None = None
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Xid:
    """An Xid error of the GPU at `gpu` in NVML's order, confined to a GPU instance or not."""

    number: int
    gpu: int = 0
    instance: int = WHOLE_GPU


def build(folder: Path) -> Path:
    """Compile the library into `folder` and return `folder`, for LD_LIBRARY_PATH; skip without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to build the fake NVML library with")
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_suffix(".c")
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{SONAME}"]
    subprocess.run([compiler, *flags, "-o", str(folder / SONAME), str(source)], check=True, timeout=60)
    return folder


def build_broken(folder: Path) -> Path:
    """Put a library that cannot be loaded into `folder`: NVML is then absent, even on a machine with GPUs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SONAME).write_bytes(b"")
    return folder


def configure(
    control: Path,
    *gpus: FakeGpu,
    errors: Mapping[str, int] | None = None,
    driver_start: int = 0,
    xids: Sequence[Xid] = (),
) -> None:
    """Say what NVML answers from now on, in every process that uses this control file.

    `errors` maps a function to the error code it returns for every GPU; "nvmlInit" is one of them. Another
    `driver_start` than before is a driver that was reloaded: all calls fail until NVML is opened again. `xids` are all
    that have happened so far; whoever listens is told those that came after it began to.
    """
    lines = [f"count={len(gpus)}", f"driver_start={driver_start}"]
    lines += [f"error.{function}={code}" for function, code in (errors or {}).items()]
    lines += [f"events={len(xids)}"]
    lines += [
        f"event.{place}={xid.gpu}:{pynvml.nvmlEventTypeXidCriticalError}:{xid.number}:{xid.instance}"
        for place, xid in enumerate(xids)
    ]
    for index, gpu in enumerate(gpus):
        lines += [f"gpu.{index}.{line}" for line in _lines(gpu)]
    temporary = control.with_name(control.name + ".new")
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(control)


def environment(folder: Path, control: Path) -> dict[str, str]:
    """This process's environment, with the fake library of `folder` in front and driven by `control`."""
    search = os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))
    return {**os.environ, "LD_LIBRARY_PATH": search, "FAKE_NVML_CONTROL": str(control)}


@contextmanager
def loaded(folder: Path, control: Path) -> Iterator[None]:
    """Point the bindings of this very process at the fake library, whichever one they have loaded before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_NVML_CONTROL", str(control))
        patch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(folder / SONAME)))
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        yield


def _lines(gpu: FakeGpu) -> list[str]:
    lines = [
        *_common(gpu),
        f"graphics={_processes(gpu.graphics)}",
        f"utilization={gpu.utilization_percent}",
        f"temperature={gpu.temperature_celsius}",
        f"milliwatts={gpu.power_milliwatts}",
        f"millijoules={gpu.energy_millijoules}",
        f"remap_failed={int(gpu.remap_failed)}",
    ]
    if gpu.free_bytes is not None:
        lines.append(f"free={gpu.free_bytes}")
    if gpu.slices is not None:
        lines.append(f"slices={len(gpu.slices)}")
        for place, each in enumerate(gpu.slices):
            if each is not None:
                lines += [f"slice.{place}.{line}" for line in (*_common(each), f"instance={each.instance}")]
    return lines


def _common(device: FakeGpu | FakeSlice) -> list[str]:
    return [
        f"uuid={device.uuid}",
        f"name={device.name}",
        f"total={device.total_bytes}",
        f"used={device.used_bytes}",
        f"reserved={device.reserved_bytes}",
        f"compute={_processes(device.compute)}",
        *(f"error.{function}={code}" for function, code in device.errors.items()),
    ]


def _processes(processes: Mapping[int, int | None]) -> str:
    return ",".join(f"{pid}:{-1 if size is None else size}" for pid, size in processes.items())
