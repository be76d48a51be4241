"""What happened: on each GPU, lane by lane, one attempt after another, with pauses that fill the time."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.installation.fleet import MODELS, SHAPES, TENANTS, Machine, need, pace
from scheduler import ids
from scheduler.footprint import Footprint
from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.params import VideoParams
from scheduler.records import JobError, ServedModel
from scheduler.states import JobStatus, Outcome

_BUSIEST = 0.85  # of a lane's time; where there are too many jobs for that, each takes less
_LOST = JobError("worker_lost", "the worker died or fell silent")
_MEMORY = JobError(OUT_OF_MEMORY, "the GPU ran out of memory although the estimate fitted")
_BROKEN = JobError("internal_error", "the worker failed with RuntimeError")
# How an attempt ends, and how often. After the first four the job has another one.
_ENDINGS: tuple[tuple[Outcome, JobError | None, float], ...] = (
    (Outcome.EXPIRED, _LOST, 0.015),
    (Outcome.RETRIED, _MEMORY, 0.012),
    (Outcome.RETRIED, _BROKEN, 0.01),
    (Outcome.RELEASED, None, 0.025),
    (Outcome.FAILED, _BROKEN, 0.015),
    (Outcome.CANCELLED, None, 0.03),
    (Outcome.SUCCEEDED, None, 0.893),
)
_LAST = _ENDINGS[4:]
_MOST_SPANS = 3  # of a job
_AGAIN = frozenset({Outcome.EXPIRED, Outcome.RETRIED, Outcome.RELEASED})
STATUS = {
    Outcome.SUCCEEDED: JobStatus.SUCCEEDED,
    Outcome.FAILED: JobStatus.FAILED,
    Outcome.CANCELLED: JobStatus.CANCELLED,
}
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Span(NamedTuple):
    """A time, and how it ended."""

    started_at: float
    ended_at: float
    outcome: Outcome
    error: JobError | None


@dataclass(frozen=True, slots=True)
class Past:
    """A job that has ended. `spans` are its attempts, all on one GPU: the last one ended the job."""

    id: str
    tenant: str
    model: ServedModel
    params: VideoParams
    prompt: int
    machine: Machine
    lane: int
    footprint: Footprint
    created_at: float
    spans: Sequence[Span]

    @property
    def status(self) -> JobStatus:
        """How it ended."""
        return STATUS[self.spans[-1].outcome]


def histories(fleet: Sequence[Machine], jobs: int, since: float, until: float, seed: int) -> Sequence[Past]:
    """Return `jobs` jobs that came, ran and ended in [since, until), in the order of their ids; by `seed` alone."""
    lanes = [(machine, lane) for machine in fleet for lane in range(machine.lanes)]
    chance = random.Random(seed)  # noqa: S311  no secret
    made: list[Past] = []
    for (machine, lane), own in zip(lanes, _divided(jobs, [pace(machine.card) for machine, _ in lanes]), strict=True):
        made += _lane([_drawn(machine, lane, chance) for _ in range(own)], since, until, chance)
    return sorted(made, key=lambda past: past.id)


def _divided(jobs: int, paces: Sequence[float]) -> Iterator[int]:
    """Divide jobs in proportion to how fast they are done."""
    done, reached = 0, 0.0
    for one in paces:
        reached += one
        upto = round(jobs * reached / sum(paces))
        yield upto - done
        done = upto


def _drawn(machine: Machine, lane: int, chance: random.Random) -> Past:
    """A job whose spans begin at 0 and follow each other at once; its id and the time it came are still missing."""
    model = chance.choices(MODELS, (6, 3, 1))[0]
    params = replace(chance.choice(SHAPES), seed=chance.getrandbits(32))
    footprint = need(machine.card, model, replace(params, seed=SHAPES[0].seed))
    spans: list[Span] = []
    while not spans or spans[-1].outcome in _AGAIN:
        possible = _ENDINGS if len(spans) + 1 < _MOST_SPANS else _LAST
        outcome, error, _ = chance.choices(possible, [weight for _, _, weight in possible])[0]
        whole = footprint.seconds * chance.uniform(0.9, 1.15)
        began = spans[-1].ended_at if spans else 0.0
        lasted = whole if outcome is Outcome.SUCCEEDED else whole * chance.uniform(0.02, 0.9)
        spans.append(Span(began, began + lasted, outcome, error))
    tenant = chance.choices(TENANTS, range(1, len(TENANTS) + 1))[0]
    return Past("", tenant, model, params, chance.randrange(1000), machine, lane, footprint, 0.0, spans)


def _lane(drawn: Sequence[Past], since: float, until: float, chance: random.Random) -> Iterator[Past]:
    """Put jobs one after another into their time."""
    needed = sum(past.spans[-1].ended_at for past in drawn)
    shrunk = min(1.0, _BUSIEST * (until - since) / needed) if needed else 1.0
    pauses = [chance.expovariate(1.0) for _ in drawn]
    pause = (until - since - shrunk * needed) / (sum(pauses) + 1.0)
    at = since
    for past, long in zip(drawn, pauses, strict=True):
        at += long * pause
        spans = [
            Span(at + began * shrunk, at + ended * shrunk, outcome, error)
            for began, ended, outcome, error in past.spans
        ]
        created_at = max(since, at - chance.expovariate(1 / 90.0))
        yield replace(past, id=_id(created_at, chance), created_at=created_at, spans=spans)
        at = spans[-1].ended_at


def _id(at: float, chance: random.Random) -> str:
    """An id as one that is made at that time."""
    return ids.first_at("job", at)[:-16] + "".join(chance.choices(_ALPHABET, k=16))
