"""Weight and rank: the order of the queue as two numbers that never need rewriting."""

import math

_GIB = 2**30


def weight(est_seconds: float, est_vram_bytes: int, priority: float) -> float:
    """Return `est_seconds / est_vram_gib * priority`, the user's formula; all three must be above zero."""
    return est_seconds / (est_vram_bytes / _GIB) * priority


def rank(job_weight: float, submitted_at: float, tau_seconds: float) -> float:
    """Return the static sort key `ln(weight) - submitted_at / tau`; the highest goes first.

    Every job's age grows alike, so ageing need not be recomputed: the difference of two ranks is constant.
    A later job L overtakes an earlier job E only if it was submitted less than
    `tau * ln(weight_L / weight_E)` seconds after it, which bounds every wait. `tau = inf` orders by
    weight alone.
    """
    return math.log(job_weight) - submitted_at / tau_seconds
