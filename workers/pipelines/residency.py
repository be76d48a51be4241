"""Weights that lie in host memory and come to the device only while they are used.

`Parked` holds one network, brought in for as long as somebody needs it. `Streamed` holds one whose modules
run after each other: two of them are on the device, the one that runs and the one that comes next. Weights never
change, so nothing is ever copied back.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# CUDA's own allocations are aligned so; then kernels are chosen alike wherever weights lie.
_ALIGNMENT = 256


class Slot(Protocol):
    """Room on the device for the weights of one module at a time."""

    size_bytes: int

    def fetch(self, host: torch.Tensor) -> torch.Tensor:
        """Begin to copy `host` (bytes) here, after the last use has ended; the bytes on the device."""

    def begin(self) -> None:
        """Let what is computed next wait for the copy."""

    def end(self) -> None:
        """Note that what was computed up to here is the last use."""


class Mover:
    """Brings weights to a device whose memory is the host's: nothing moves."""

    apart = False
    """Whether the device has a memory of its own, which what is parked does not take."""

    def host_memory(self, size_bytes: int) -> torch.Tensor:
        """Bytes on the host that can be copied to the device at full speed."""
        return torch.empty(size_bytes, dtype=torch.uint8)

    def bring(self, host: torch.Tensor) -> torch.Tensor:
        """`host` (bytes) on the device, for what is computed next."""
        return host

    def slot(self, size_bytes: int) -> Slot:
        """Room for up to `size_bytes`."""
        return _HostSlot(size_bytes)


class _HostSlot:
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def fetch(self, host: torch.Tensor) -> torch.Tensor:
        return host

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


class CudaMover(Mover):
    """Brings weights to a GPU from pinned memory, those of a `slot` on a stream beside the one that computes."""

    apart = True

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def host_memory(self, size_bytes: int) -> torch.Tensor:
        """Pinned bytes."""
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)

    def bring(self, host: torch.Tensor) -> torch.Tensor:
        """`host` on the GPU, copied on the current stream."""
        return host.to(self._device, non_blocking=True)

    def slot(self, size_bytes: int) -> Slot:
        """Room on the GPU, with a stream of its own to fill it."""
        return _CudaSlot(size_bytes, self._device)


class _CudaSlot:
    def __init__(self, size_bytes: int, device: torch.device) -> None:
        self.size_bytes = size_bytes
        self._room = torch.empty(size_bytes, dtype=torch.uint8, device=device)
        self._stream = torch.cuda.Stream(device)
        self._arrived = torch.cuda.Event()
        self._left = torch.cuda.Event()
        # The room may be memory that work on the current stream still uses.
        self._left.record()

    def fetch(self, host: torch.Tensor) -> torch.Tensor:
        room = self._room[: len(host)]
        with torch.cuda.stream(self._stream):
            self._left.wait()
            room.copy_(host, non_blocking=True)
            self._arrived.record()
        return room

    def begin(self) -> None:
        self._arrived.wait()

    def end(self) -> None:
        self._left.record()


def mover(device: torch.device) -> Mover:
    """The mover for `device`."""
    return CudaMover(device) if device.type == "cuda" else Mover()


class HostCopy:
    """All tensors of a module, one after the other in one piece of host memory. The module uses that from now on."""

    def __init__(self, module: torch.nn.Module, mover: Mover) -> None:
        with torch.inference_mode(mode=False):
            self._tensors = [*module.parameters(), *module.buffers()]
            self._offsets = []
            end = 0
            for tensor in self._tensors:
                self._offsets.append(end)
                end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
            self.memory = mover.host_memory(end)
            self._views = self.views(self.memory)
            for tensor, view in zip(self._tensors, self._views, strict=True):
                view.copy_(tensor)
        self.point_to_host()

    @property
    def size_bytes(self) -> int:
        """What the copy takes, and on the device too: the tensors, each at an aligned place."""
        return len(self.memory)

    @property
    def weights_bytes(self) -> int:
        """What the tensors are by themselves."""
        return sum(view.nbytes for view in self._views)

    def views(self, memory: torch.Tensor) -> list[torch.Tensor]:
        """The tensors as they lie in `memory`, a copy of this one's."""
        with torch.inference_mode(mode=False):
            return [
                memory[offset : offset + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
                for tensor, offset in zip(self._tensors, self._offsets, strict=True)
            ]

    def point_to(self, views: Sequence[torch.Tensor]) -> None:
        """Let the module use `views`."""
        for tensor, view in zip(self._tensors, views, strict=True):
            tensor.data = view

    def point_to_host(self) -> None:
        """Let the module use the host's memory: what it used before is free."""
        self.point_to(self._views)


class Parked:
    """One network in host memory, on the device while somebody uses it."""

    def __init__(self, module: torch.nn.Module, mover: Mover) -> None:
        self._copy = HostCopy(module, mover)
        self._mover = mover
        self._users = 0
        self._closed = False

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Have the network on the device inside. May be nested, or overlap with another use."""
        if self._users == 0:
            with torch.inference_mode(mode=False):
                memory = self._mover.bring(self._copy.memory)
            self._copy.point_to(self._copy.views(memory))
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0 and not self._closed:
                self._copy.point_to_host()

    def close(self) -> None:
        """Leave the weights in host memory. A use that is still open no longer matters."""
        self._closed = True
        self._copy.point_to_host()


class Streamed:
    """Modules that run one after the other, always in the same order, from two slots on the device.

    The order is learned from the first time they run; then each brings in the one that comes after it while it runs.
    """

    def __init__(self, modules: Sequence[torch.nn.Module], mover: Mover) -> None:
        self._copies = {module: HostCopy(module, mover) for module in modules}
        largest = max(copy.size_bytes for copy in self._copies.values())
        with torch.inference_mode(mode=False):
            self._slots = [mover.slot(largest) for _ in range(2)]
        self._in: dict[Slot, torch.nn.Module] = {}
        self._views: dict[tuple[Slot, torch.nn.Module], list[torch.Tensor]] = {}
        self._follows: dict[torch.nn.Module, torch.nn.Module] = {}
        self._running: tuple[torch.nn.Module, Slot] | None = None
        self._last: torch.nn.Module | None = None
        self._hooks = [
            hook
            for module in modules
            for hook in (module.register_forward_pre_hook(self._enter), module.register_forward_hook(self._leave))
        ]

    @property
    def weights_bytes(self) -> int:
        """What the modules' weights are together."""
        return sum(copy.weights_bytes for copy in self._copies.values())

    @property
    def slots_bytes(self) -> int:
        """What the slots take on the device."""
        return sum(slot.size_bytes for slot in self._slots)

    def close(self) -> None:
        """Leave the weights in host memory and free the slots."""
        self._end_running()
        for hook in self._hooks:
            hook.remove()
        for slot in self._in:
            slot.begin()  # a copy may be under way: who gets the memory next comes after it
        self._slots.clear()
        self._in.clear()
        self._views.clear()

    def _enter(self, module: torch.nn.Module, _inputs: Any) -> None:
        self._end_running()  # left over where a module raised: its hook for leaving did not run
        slot = self._slot_of(module) or self._fetch(module)
        slot.begin()
        self._copies[module].point_to(self._views[slot, module])
        self._running = (module, slot)
        if self._last is not None:
            self._follows[self._last] = module
        self._last = module
        following = self._follows.get(module)
        if following is not None and self._slot_of(following) is None:
            self._fetch(following)

    def _leave(self, _module: torch.nn.Module, _inputs: Any, _output: Any) -> None:
        self._end_running()

    def _end_running(self) -> None:
        if self._running is not None:
            module, slot = self._running
            slot.end()
            self._copies[module].point_to_host()
            self._running = None

    def _slot_of(self, module: torch.nn.Module) -> Slot | None:
        return next((slot for slot, held in self._in.items() if held is module), None)

    def _fetch(self, module: torch.nn.Module) -> Slot:
        """Begin to bring `module` into the slot that is not in use."""
        busy = self._running[1] if self._running is not None else None
        slot = next(slot for slot in self._slots if slot is not busy)
        with torch.inference_mode(mode=False):
            memory = slot.fetch(self._copies[module].memory)
        self._in[slot] = module
        if (slot, module) not in self._views:
            self._views[slot, module] = self._copies[module].views(memory)
        return slot
