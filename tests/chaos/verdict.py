"""The rules of the queue, checked on what a campaign left: the database, and what each worker was told."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from scheduler.service import Scheduler
from scheduler.states import JobStatus, Outcome
from scheduler.store import schema as s
from tests.chaos import journal
from tests.chaos.journal import Event, Kind

_CLOCK_SECONDS = 0.1  # by which the worker's clock and the database's, of the same machine, may differ
_OUTCOMES = {"succeed": Outcome.SUCCEEDED, "retry": Outcome.RETRIED, "release": Outcome.RELEASED}

_Trails = dict[tuple[str, int], list[Event]]  # by job and fence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was counted, and each broken rule in one line."""

    counts: dict[str, int]
    violations: list[str]
    succeeded_at: list[float]  # seconds since 1970, ascending


@dataclass(frozen=True, slots=True)
class _State:
    """What the database says at the end."""

    states: Sequence[Row[Any]]
    attempts: dict[str, list[Row[Any]]]  # by job, oldest first
    videos: dict[str, str]
    open_leases: int
    reservations: int
    leased_bytes: int


def judge(scheduler: Scheduler, journals: Path, job_ids: Iterable[str]) -> Verdict:
    """Check every rule. All processes have ended, every worker has been given up, and the reaper has been round."""
    found = _read(scheduler)
    trails: _Trails = defaultdict(list)
    for event in journal.read(journals):
        trails[event.job_id, event.fence].append(event)
    attempts = [attempt for history in found.attempts.values() for attempt in history]
    return Verdict(
        counts=_count(attempts, trails),
        violations=[
            *_ended_once(found, set(job_ids)),
            *(line for state in found.states for line in _consistent(state, found.attempts.get(state.job_id, []))),
            *_as_told(attempts, trails),
            *_accepted_once(found, trails),
        ],
        succeeded_at=sorted(each.ended_at for each in attempts if each.outcome == Outcome.SUCCEEDED),
    )


def _read(scheduler: Scheduler) -> _State:
    with scheduler.database.read() as conn:
        history: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in conn.execute(select(s.attempts).order_by(s.attempts.c.job_id, s.attempts.c.lease)):
            history[row.job_id].append(row)
        return _State(
            states=conn.execute(select(s.job_states)).all(),
            attempts=history,
            videos={row.job_id: row.video_key for row in conn.execute(select(s.results))},
            open_leases=len(conn.execute(select(s.leases)).all()),
            reservations=len(conn.execute(select(s.reservations)).all()),
            leased_bytes=sum(gpu.reserved_bytes for gpu in scheduler.fleet.gpus()),
        )


def _ended_once(found: _State, job_ids: set[str]) -> Iterator[str]:
    """No job lost or doubled, each succeeded with one result, and nothing held for any of them."""
    stored = {state.job_id for state in found.states}
    yield from (f"{job_id} was acknowledged and is gone" for job_id in job_ids - stored)
    yield from (f"{job_id} was never acknowledged, and is there" for job_id in stored - job_ids)
    for state in found.states:
        if state.status != JobStatus.SUCCEEDED:
            yield f"{state.job_id} is {state.status}"
        elif found.videos.get(state.job_id) != f"jobs/{state.job_id}/{state.lease}/video.mp4":
            yield f"{state.job_id} ended with lease {state.lease} and shows {found.videos.get(state.job_id)}"
    if found.open_leases:
        yield f"{found.open_leases} leases are still open"
    if found.reservations:
        yield f"{found.reservations} GPUs are still reserved for a job"
    if found.leased_bytes:
        yield f"{found.leased_bytes} bytes are still given away"


def _consistent(state: Row[Any], history: Sequence[Row[Any]]) -> Iterator[str]:
    """Fences count up by one, only the last attempt succeeded, and only a release is given back."""
    job_id = state.job_id
    if [attempt.lease for attempt in history] != list(range(1, state.lease + 1)):
        yield f"{job_id} has the fences {[attempt.lease for attempt in history]}, and lease {state.lease}"
    number = 1
    for attempt in history:
        if attempt.number != number:
            yield f"{job_id} has attempt {attempt.number} with lease {attempt.lease}: it should be {number}"
        number = attempt.number + (attempt.outcome != Outcome.RELEASED)
        if attempt.ended_at is None or attempt.ended_at < attempt.started_at:
            yield f"{job_id} lease {attempt.lease} began at {attempt.started_at} and ended at {attempt.ended_at}"
        last = attempt is history[-1]
        allowed = {Outcome.SUCCEEDED} if last else {Outcome.EXPIRED, Outcome.RETRIED, Outcome.RELEASED}
        if attempt.outcome not in allowed:
            yield f"{job_id} lease {attempt.lease} of {len(history)} is {attempt.outcome}"
    if history and state.attempts != history[-1].number:
        yield f"{job_id} counts {state.attempts} attempts, and its last is {history[-1].number}"


def _as_told(attempts: Sequence[Row[Any]], trails: _Trails) -> Iterator[str]:
    """What a worker was told about a lease is what the database says of that attempt."""
    unknown = trails.keys() - {(attempt.job_id, attempt.lease) for attempt in attempts}
    yield from (f"lease {fence} of {job_id} was given out, and is no attempt" for job_id, fence in unknown)
    for attempt in attempts:
        where = f"lease {attempt.lease} of {attempt.job_id} ({attempt.outcome})"
        trail = trails.get((attempt.job_id, attempt.lease), [])
        ending = _ending(trail)
        if {event.worker_id for event in trail} - {attempt.worker_id}:
            yield f"{where} was used by another worker than {attempt.worker_id}"
        if attempt.outcome != Outcome.EXPIRED and attempt.outcome != ending.outcome:
            yield f"{where} was not ended so by its worker"
        if Kind.ACCEPTED in ending.answers and attempt.outcome != ending.outcome:
            yield f"{where} was accepted as {ending.outcome}"
        if (
            any(event.kind is Kind.REFUSED for event in trail)
            and attempt.outcome != Outcome.EXPIRED
            and not ending.lost
        ):
            yield f"{where} was refused to the worker that holds it"
        for event in trail:
            late_seconds = event.began_at - attempt.ended_at
            if event.kind is Kind.ACCEPTED and late_seconds > _CLOCK_SECONDS:
                yield f"{where}: a {event.call} was accepted that began {late_seconds:.3f} s after its end"


def _accepted_once(found: _State, trails: _Trails) -> Iterator[str]:
    """One success accepted per job, and it is the result's; none only where its answer was lost."""
    accepted: dict[str, list[int]] = defaultdict(list)
    for (job_id, fence), trail in trails.items():
        accepted[job_id] += [fence for each in trail if each.kind is Kind.ACCEPTED and each.call == "succeed"]
    for state in found.states:
        fences = accepted[state.job_id]
        if len(fences) > 1:
            yield f"{state.job_id} was accepted as succeeded {len(fences)} times: leases {fences}"
        elif fences and fences != [state.lease]:
            yield f"{state.job_id} was accepted with lease {fences[0]}, and its result is of {state.lease}"
        elif not fences and not _ending(trails.get((state.job_id, state.lease), [])).lost:
            yield f"{state.job_id} succeeded with lease {state.lease}, which no worker was told"


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a worker meant to end an attempt, and what it was answered."""

    outcome: Outcome | None
    answers: frozenset[Kind]

    @property
    def lost(self) -> bool:
        """Whether it asked, and was killed or cut off before the answer."""
        if self.outcome is None or Kind.ACCEPTED in self.answers:
            return False
        return Kind.REFUSED not in self.answers or Kind.UNANSWERED in self.answers


def _ending(trail: Sequence[Event]) -> _Ending:
    call = next((event.call for event in trail if event.kind is Kind.ENDING), None)
    if call is None:
        return _Ending(None, frozenset())
    return _Ending(_OUTCOMES[call], frozenset(event.kind for event in trail if event.call == call))


def _count(attempts: Sequence[Row[Any]], trails: _Trails) -> dict[str, int]:
    outcomes = Counter(attempt.outcome for attempt in attempts)
    ended_as = {(attempt.job_id, attempt.lease): attempt.outcome for attempt in attempts}
    stale = Counter(
        event.call
        for key, trail in trails.items()
        for event in trail
        if event.kind is Kind.REFUSED and ended_as.get(key) == Outcome.EXPIRED
    )
    lost = sum(ended_as.get(key) != Outcome.EXPIRED and _ending(trail).lost for key, trail in trails.items())
    return {
        "attempts": len(attempts),
        "attempts succeeded": outcomes[Outcome.SUCCEEDED],
        "attempts expired": outcomes[Outcome.EXPIRED],
        "attempts retried": outcomes[Outcome.RETRIED],
        "attempts released": outcomes[Outcome.RELEASED],
        "stale writes refused": stale.total(),
        **{f"  {call}": stale[call] for call in ("report", "succeed", "retry", "release")},
        "answers lost": lost,
    }
