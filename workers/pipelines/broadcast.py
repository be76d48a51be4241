"""The `fast` preset: in the middle of the schedule, what attention gave at one step serves the next ones too.

Neighbouring steps attend alike, most of all over time and to the prompt ("pyramid attention broadcast", arXiv
2408.12588). So what the temporal transformers add, and what attention to prompt and image gives, is computed at every
`PERIOD`th step and reused in between. It is an approximation, and only for callers who ask for it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

PERIOD = 4
"""A run of the preset computes everything at one step in so many, and can be resumed there."""

MAX_ERROR = {True: 0.5, False: 0.05}
"""Bounds the final latents' distance from the standard preset's, as `Plan.max_error` does, with guidance and without.

For 50 steps of the tiny model, whose weights are random, so that guidance multiplies what they make of a difference.
How it looks with real weights is for the caller to judge.
"""

FLOPS_SHARE = {"512x512x16": 0.848, "768x768x24": 0.865, "1024x1024x32": 0.882}
"""The work of 50 steps, over that of the standard preset, for the published model."""

KEPT_PER_LATENT_VALUE = 2_980
"""Values that stay on the device between two steps, for each of the latents, guided, for the published model."""

# The first steps lay out the picture and the last ones its detail: neither tolerates what is stale.
_FIRST, _LAST = 0.15, 0.9


def window(steps: int) -> range:
    """Those of `steps` steps in which outputs are kept and reused; a whole number of periods."""
    first = max(1, round(steps * _FIRST))
    return range(first, first + max(0, round(steps * _LAST) - first) // PERIOD * PERIOD)


def is_fresh(index: int, steps: int) -> bool:
    """Whether step `index` of `steps` computes everything itself, so that a run may go on from there.

    True for `index == steps` too, the end.
    """
    reused = window(steps)
    return index not in reused or (index - reused.start) % PERIOD == 0


class Broadcast:
    """What one run keeps between its steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._outputs: dict[str, list[torch.Tensor]] = {}

    @property
    def cached_bytes(self) -> int:
        """What is kept now."""
        return sum(output.numel() * output.element_size() for kept in self._outputs.values() for output in kept)

    def clear(self) -> None:
        """Forget everything: the next step must be a fresh one."""
        self._outputs.clear()

    @contextlib.contextmanager
    def applied(self, unet: Any, index: int) -> Iterator[None]:
        """Run `unet` inside as step `index`: its attention keeps its outputs, or gives those it kept."""
        steps = window(self._steps)
        fresh = is_fresh(index, self._steps)
        if fresh:
            self.clear()
        if index not in steps:
            yield
            return
        with contextlib.ExitStack() as stack:
            for name, module in unet.named_modules():
                if isinstance(module, TransformerTemporalModel):
                    kind: type[_Whole] = _Added
                elif isinstance(module, Attention) and name.endswith(".attn2") and ".attentions." in name:
                    kind = _Whole
                else:
                    continue
                kept = self._outputs.setdefault(name, [])
                calls = kind(module.forward, kept)
                stack.enter_context(_forward_replaced(module, calls.keep if fresh else calls.reuse))
            yield
        if (index + 1) not in steps:
            self.clear()


class _Whole:
    """A module's calls within one forward pass, whose outputs are kept. A plan that works in pieces makes several."""

    def __init__(self, forward: Callable[..., Any], kept: list[torch.Tensor]) -> None:
        self._forward = forward
        self._kept = kept
        self._calls = 0

    def keep(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        output = self._forward(hidden_states, *args, **kwargs)
        self._kept.append(output)
        return output

    def reuse(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return self._next()

    def _next(self) -> torch.Tensor:
        self._calls += 1
        return self._kept[self._calls - 1]


class _Added(_Whole):
    """The same for a module that adds to what it is given, where only what it adds is kept; called for a tuple."""

    def keep(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        (output,) = self._forward(hidden_states, *args, **kwargs)
        self._kept.append(output - hidden_states)
        return (output,)

    def reuse(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return (hidden_states + self._next(),)


@contextlib.contextmanager
def _forward_replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    before = module.__dict__.get("forward")  # a plan may have put its own there
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
