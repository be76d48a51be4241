"""The peers' environments: one each, with pinned versions, made at the first run and kept."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / ".environments"


def python_of(peer: str) -> Path:
    """Return the Python that has `peer` installed; raises CalledProcessError when pip cannot install it."""
    pins = requirements(peer)
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = _FOLDER / f"{peer}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {peer} into {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "--requirement", str(pins)], check=True, stdout=sys.stderr)
        (folder / "complete").touch()
    return python


def version_of(peer: str) -> str:
    """Return the pinned version."""
    lines = requirements(peer).read_text().splitlines()
    return next(line.removeprefix(f"{peer}==") for line in lines if line.startswith(f"{peer}=="))


def requirements(peer: str) -> Path:
    """Return the file with a peer's pins, whichever benchmark has it."""
    return next(Path(__file__).parents[1].glob(f"*/peers/{peer}.txt"))
