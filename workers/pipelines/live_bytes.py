"""Exact peaks without a GPU: the bytes of all tensors that are alive at once while something runs.

Works on the meta device too, where a full-size model costs no memory. What it does not see is what a kernel
takes for itself and what the allocator loses between blocks. Attention counts as a GPU computes it: without its scores.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable


class LiveBytes:
    """Counts what is made inside the `with`, not what was there before: `live_bytes` now, `peak_bytes` at most."""

    def __init__(self) -> None:
        self.live_bytes = 0
        self.peak_bytes = 0
        self._alive: dict[int, Any] = {}
        self._modes = (_Counting(self._count), _FusedAttention())

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001  an identity that views share
        if key in self._alive:
            return
        self._alive[key] = weakref.ref(storage, lambda _: self._end(key, size))
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _end(self, key: int, size: int) -> None:
        del self._alive[key]
        self.live_bytes -= size


class _Counting(TorchDispatchMode):  # type: ignore[misc]  # torch is Any here
    def __init__(self, count: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self._count_tensor = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}  # noqa: SLF001
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in given:  # noqa: SLF001
                self._count_tensor(leaf)
        return output


class _FusedAttention(TorchFunctionMode):  # type: ignore[misc]  # torch is Any here
    """On the meta device torch would hold all scores of an attention; here its result alone, laid out as a GPU's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention and args[0].device.type == "meta":
            query, _, value = args[:3]
            batch, heads, length, _ = query.shape
            return query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        return func(*args, **(kwargs or {}))
