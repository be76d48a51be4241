"""What the encoders made before: the same prompt or image is encoded once, whoever asks again.

Outputs are kept on the host, so that they cost no device memory, byte for byte as the encoder gave them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from workers.pipelines import runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import torch

DEFAULT_LIMIT_BYTES = 128 * 1024 * 1024


class EmbeddingCache:
    """Tensors by what they were made from; past `limit_bytes` those go that were used longest ago.

    For one thread and, on a GPU, one stream: a copy to the host is only queued, and the stream's order is what makes
    it whole before it is read back.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.bytes = 0
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[Hashable, tuple[torch.Tensor, ...]] = OrderedDict()

    def get(
        self, key: Hashable, device: torch.device, make: Callable[[], tuple[torch.Tensor, ...]]
    ) -> tuple[torch.Tensor, ...]:
        """What `make` returns, tensors on `device`, or what it returned for the same `key` before."""
        kept = self._entries.get(key)
        if kept is not None:
            self._entries.move_to_end(key)
            return tuple(runtime.upload(tensor, device) for tensor in kept)
        made = make()
        self._keep(key, made)
        return made

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0

    def _keep(self, key: Hashable, made: tuple[torch.Tensor, ...]) -> None:
        size = _bytes(made)
        if size > self._limit_bytes:
            return
        self._entries[key] = tuple(runtime.queue_download(tensor) for tensor in made)
        self.bytes += size
        while self.bytes > self._limit_bytes:
            _, dropped = self._entries.popitem(last=False)
            self.bytes -= _bytes(dropped)


def _bytes(tensors: tuple[torch.Tensor, ...]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
