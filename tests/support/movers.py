"""A device with a memory of its own, on the CPU: what is moved there is a copy, and the order of events is kept."""

from __future__ import annotations

import torch

from workers.pipelines.residency import Mover

_POISON = 0xFF  # read as a float of any size it is not a number


class RecordingMover(Mover):
    """Keeps what happened in `events`, as ("bring", bytes), ("fetch" | "begin" | "end", number of the slot)."""

    apart = True

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.slots: list[RecordingSlot] = []

    def bring(self, host: torch.Tensor) -> torch.Tensor:
        self.events.append(("bring", len(host)))
        return host.clone()

    def slot(self, size_bytes: int) -> RecordingSlot:
        self.slots.append(RecordingSlot(size_bytes, len(self.slots), self.events))
        return self.slots[-1]


class RecordingSlot:
    """Refuses a copy into it while it is used, and forgets what it held before."""

    def __init__(self, size_bytes: int, number: int, events: list[tuple[str, int]]) -> None:
        self.size_bytes = size_bytes
        self._room = torch.full((size_bytes,), _POISON, dtype=torch.uint8)
        self._number = number
        self._events = events
        self._used = False

    def fetch(self, host: torch.Tensor) -> torch.Tensor:
        assert not self._used, "weights are overwritten while they are used"
        self._events.append(("fetch", self._number))
        self._room.fill_(_POISON)
        self._room[: len(host)] = host
        return self._room[: len(host)]

    def begin(self) -> None:
        self._events.append(("begin", self._number))
        self._used = True

    def end(self) -> None:
        self._events.append(("end", self._number))
        self._used = False
