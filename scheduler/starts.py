"""When a queued job should start, from the seats that it could have and the work ahead of it. Pure, no I/O."""

from collections.abc import Sequence

from scheduler import outlook
from scheduler.line import Standing, Waiting
from scheduler.moment import Moment, Quota
from scheduler.outlook import Span, Work
from scheduler.seats import Seat, reservation_for


def start(job: Waiting, seats: Sequence[Seat], standing: Standing, moment: Moment, quota: Quota | None) -> Span | None:
    """Return when a job should start, in seconds from now; None where nobody can tell.

    `quota` is that of its tenant, if there is a limit.
    """
    begin = _start_of_its_turn(job, seats, standing, moment)
    if begin is None or quota is None:
        return begin
    if quota.free_after is None:
        return None
    place = outlook.start([quota.free_after], Work(), moment.pace)
    return Span(max(place.p50, begin.p50), max(place.p90, begin.p90))


def _start_of_its_turn(job: Waiting, seats: Sequence[Seat], standing: Standing, moment: Moment) -> Span | None:
    kept = reservation_for(job, seats)
    if kept is not None:
        after = 0.0 if any(seat.ready for seat in seats) else max(0.0, kept.start_at - moment.now)
        return outlook.start([after], Work(), moment.pace)
    free_after = [seat.free_after for seat in seats if seat.free_after is not None]
    if not free_after:
        return None
    least = job.not_before - moment.now
    if least <= 0:
        return outlook.start(free_after, standing.work, moment.pace)
    begin = outlook.start(free_after, standing.work.and_then(standing.joining), moment.pace)
    # By then all may be idle, and those that come with it go first.
    behind = outlook.start([0.0] * len(free_after), standing.joining, moment.pace).shifted(least)
    return Span(max(behind.p50, begin.p50), max(behind.p90, begin.p90))
