"""What could run beside or after the jobs of a pass, and whether a job that has come can share it. Pure, no I/O.

`batch` are the attempts that are denoising, in one pass.
"""

from collections.abc import Sequence

from scheduler.params import FAST
from scheduler.shape import Shape
from workers.attempt import Attempt
from workers.batching import Sharing
from workers.intake import Want


def wanted(batch: Sequence[Attempt], sharing: Sharing, lookahead_seconds: float) -> Want | None:
    """Return what is to be claimed now; None for nothing.

    Where nothing runs it is any job; from `lookahead_seconds` before the last one ends it is one for its lane; before
    that it is one of the same shape and plan, for a lane of its own, where to share the pass may gain.
    """
    if not batch:
        return Want()
    if _remaining_seconds(batch, sharing) <= lookahead_seconds:
        last = max(batch, key=_steps_left)
        return Want(lane=last.lease.lane)
    if not _may_grow(batch, sharing):
        return None
    first = batch[0].lease
    taken = {attempt.lease.lane for attempt in batch}
    lane = next(lane for lane in range(len(taken) + 1) if lane not in taken)
    return Want(lane, Shape.of(first.params).key, first.plan)


def may_share(attempt: Attempt, batch: Sequence[Attempt]) -> bool:
    """Return whether an attempt can share the pass; one claimed for the lane of another comes after that."""
    lanes = {one.lease.lane for one in batch}
    return attempt.kind == batch[0].kind and attempt.lease.lane not in lanes


def _remaining_seconds(batch: Sequence[Attempt], sharing: Sharing) -> float:
    steps = max(_steps_left(attempt) for attempt in batch)
    known = sharing.step_seconds(batch[0].kind, len(batch))
    if known is None:
        return float("inf") if steps > 1 else 0.0
    return steps * known


def _steps_left(attempt: Attempt) -> int:
    return attempt.must_run.steps - attempt.must_run.index


def _may_grow(batch: Sequence[Attempt], sharing: Sharing) -> bool:
    first = batch[0]
    return first.lease.params.preset != FAST and not first.safer and sharing.may_join(first.kind, len(batch))
