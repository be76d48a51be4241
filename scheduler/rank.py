"""Weight and rank: the order of the queue as two numbers that never need rewriting.

The rank is static: every job ages alike, so the difference of two ranks never changes, and one index serves the order
for ever. The time in it is the *virtual* submit time. For a tenant without a share it is the moment the job became
ready; for one with a share it is `max(that moment, the tenant's clock)`, and each submit moves the clock on by the
job's seconds over the share. A flood so ages only itself: its thousandth job counts as submitted when its owner's share
would have come to it, and a neighbour's first job is not behind it.

**The bound on overtaking.** Under `weighted` a later job L goes before an earlier job E only if its virtual submit time
is less than `tau * ln(weight_L / weight_E)` seconds after E's; under `shortest_first` the same holds with
`priority / seconds` for the weight; under `fifo` never. What comes later than that goes behind E, whatever its weight,
so the work that can still overtake E is bounded from the moment that E is queued. `tau = inf` orders by weight alone,
and bounds nothing.
"""

import math

from scheduler.footprint import Footprint
from scheduler.policy import Order, Policy

_GIB = 2**30


def weight(est_seconds: float, est_vram_bytes: int, priority: float) -> float:
    """Return `est_seconds / est_vram_gib * priority`, the user's formula; all three must be above zero."""
    return est_seconds / (est_vram_bytes / _GIB) * priority


def rank(policy: Policy, *, job_weight: float, est_seconds: float, priority: float, virtual_at: float) -> float:
    """Return the static sort key under the policy's order; the highest goes first, the smaller id among equals.

    `weighted`: `ln(weight) - virtual_at / tau`. `shortest_first`: `ln(priority / seconds) - virtual_at / tau`.
    `fifo`: `-virtual_at`.
    """
    if policy.order is Order.FIFO:
        return -virtual_at
    merit = job_weight if policy.order is Order.WEIGHTED else priority / est_seconds
    return math.log(merit) - virtual_at / policy.tau_seconds


def place(policy: Policy, need: Footprint, *, priority: float, virtual_at: float) -> tuple[float, float]:
    """Return the weight and the rank of a job that needs so much."""
    job_weight = weight(need.seconds, need.vram_bytes, priority)
    return job_weight, rank(
        policy, job_weight=job_weight, est_seconds=need.seconds, priority=priority, virtual_at=virtual_at
    )


def overtaking_seconds(later_merit: float, earlier_merit: float, tau_seconds: float) -> float:
    """Return how long after an earlier job a later one may come and still go first; 0 or less: never.

    The merit is the weight under `weighted`, and `priority / seconds` under `shortest_first`.
    """
    return tau_seconds * math.log(later_merit / earlier_merit)
