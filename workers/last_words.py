"""The line that a failing worker process leaves for its supervisor, beside what it writes to stderr."""

from pathlib import Path


def leave(data_dir: Path, worker_id: str, words: str) -> None:
    """Leave the first line of `words`; a folder that cannot be written loses it, and stderr has it as well."""
    try:
        _path(data_dir, worker_id).write_text(words.partition("\n")[0])
    except OSError:
        return


def take(data_dir: Path, worker_id: str) -> str | None:
    """Return what a worker that has ended left, and remove it; None where it left nothing."""
    path = _path(data_dir, worker_id)
    try:
        words = path.read_text(errors="replace")
        path.unlink()
    except OSError:
        return None
    return words or None


def _path(data_dir: Path, worker_id: str) -> Path:
    return data_dir / "run" / f"{worker_id}.error"
