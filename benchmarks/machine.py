"""What the figures of a run depend on: they compare within one run only."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil
import pysqlite3


def machine(folder: Path) -> dict[str, Any]:
    """Return what this machine is, and on which kind of file system `folder` is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    folder = folder.resolve()
    mount = next(str(parent) for parent in (folder, *folder.parents) if str(parent) in mounts)
    return {
        "cpu": next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "file_system": mounts[mount],
        "python": platform.python_version(),
        "sqlite": pysqlite3.sqlite_version,
    }
