"""What each worker was told, kept where no kill can take it: a file for each, one line an event, one write a line."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from scheduler.records import Lease


class Kind(StrEnum):
    """What a line says of a lease."""

    CLAIMED = "claimed"
    ENDING = "ending"  # written before the call that ends the attempt: a kill may take the answer
    ACCEPTED = "accepted"  # the call did what it says
    REFUSED = "refused"  # LeaseLost
    UNANSWERED = "unanswered"  # the store was away; the call may have taken effect or not


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `call` is the method of `Leases` that was called, or `claim`; `began_at` is seconds since 1970."""

    worker_id: str
    kind: Kind
    call: str
    job_id: str
    fence: int
    began_at: float


class Journal:
    """The file of one worker, opened to append."""

    def __init__(self, folder: Path, worker_id: str) -> None:
        self._file = os.open(folder / f"{worker_id}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, kind: Kind, call: str, lease: Lease, began_at: float) -> None:
        """Append one line."""
        os.write(self._file, f"{kind} {call} {lease.job_id} {lease.fence} {began_at:.6f}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def read(folder: Path) -> Iterator[Event]:
    """Yield all events of all workers, each worker's in order."""
    for path in sorted(folder.glob("*.log")):
        whole, _, _ = path.read_text().rpartition("\n")  # a kill may have cut the last line: as if never written
        for line in whole.splitlines():
            kind, call, job_id, fence, began_at = line.split()
            yield Event(path.stem, Kind(kind), call, job_id, int(fence), float(began_at))
