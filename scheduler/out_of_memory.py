"""Where a job goes that ran out of memory: to a leaner plan, or else to a larger GPU. Pure, no I/O.

A failure says that a plan needs more than a GPU could give. What is chosen next is ruled out by none: each failure is
of another plan, or on a GPU with more memory, than all before it, and so there are only so many.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler import placement
from scheduler.placement import Offer
from scheduler.plans import PLANS

OUT_OF_MEMORY = "out_of_memory"  # the code of the error, and of the notice
_LEANNESS = {plan: place for place, plan in enumerate(PLANS)}


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that did not fit: its plan, and the largest working set that its GPU can give one job."""

    plan: str
    capacity_bytes: int


def is_known(failure: Failure, earlier: Iterable[Failure]) -> bool:
    """Tell whether an earlier failure has said as much."""
    return any(each.plan == failure.plan and each.capacity_bytes >= failure.capacity_bytes for each in earlier)


def choose(offers: Iterable[Offer], failures: Sequence[Failure], class_bytes: int) -> Offer | None:
    """Return where the job goes on after the last of its `failures`; None when it has failed wherever it could run.

    That is a leaner plan; where none fits the fleet, the same one on a GPU with more memory. The job then reserves more
    than the GPUs can give on which that plan has failed, so that none of them takes it again.
    """
    last = failures[-1].plan
    lost: dict[str, int] = {}
    for failure in failures:
        lost[failure.plan] = max(failure.capacity_bytes, lost.get(failure.plan, failure.capacity_bytes))
    left = [one for offer in offers if (one := _beyond(offer, lost, class_bytes)) is not None]
    leaner = [offer for offer in left if _LEANNESS[offer.footprint.plan] > _LEANNESS[last]]
    same = [offer for offer in left if offer.footprint.plan == last]
    for candidates in (leaner, same):
        if any(placement.fits(offer, class_bytes) for offer in candidates):
            return placement.choose(candidates, class_bytes).offer
    return None


def _beyond(offer: Offer, lost: Mapping[str, int], class_bytes: int) -> Offer | None:
    """The offer as it is after the failures of its plan; None where its GPU has no more to give than theirs."""
    need = offer.footprint
    if need.plan not in lost:
        return offer
    blocks = lost[need.plan] // class_bytes + 1
    if offer.capacity_bytes // class_bytes < blocks:
        return None
    return replace(offer, footprint=replace(need, working_bytes=max(need.working_bytes, blocks * class_bytes)))
