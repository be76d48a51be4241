"""Jobs of the off-peak window: they start only while it is open, at once when it opens, and say what they wait for."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select, update

from scheduler.claiming import Claims
from scheduler.errors import InvalidParameter
from scheduler.policy import Policy
from scheduler.records import Job
from scheduler.service import Scheduler
from scheduler.states import JobStatus, Window
from scheduler.store import schema as s
from scheduler.waits import Blocker
from scheduler.windows import Windows, read_windows
from tests.contract.scheduler.test_order import run_all
from tests.support.databases import Clock
from tests.support.fleet import ERROR, MEASURED, RESULT, new_job, open_scheduler, register_gpu
from tests.support.query_plans import query_plan

Under = Callable[[Windows | None], Scheduler]

HOUR = 3600.0
NIGHT = read_windows("* 22-23,0-5 * * *", "UTC")
LATER = read_windows("* 23 * * *", "UTC")


@pytest.fixture
def policy() -> Policy:
    return Policy(off_peak=NIGHT)


@pytest.fixture(autouse=True)
def noon(clock: Clock) -> Clock:
    """It is twelve o'clock: the window opens in ten hours, for eight."""
    clock.seconds -= clock.seconds % (24 * HOUR) - 12 * HOUR
    return clock


def submit(scheduler: Scheduler, **changes: object) -> Job:
    return scheduler.queue.submit(new_job(**{"window": Window.OFF_PEAK} | changes)).job


def why(scheduler: Scheduler, job: Job) -> Blocker | None:
    info = scheduler.queue.explain(scheduler.queue.get(job.id))
    return None if info is None else info.wait.code


@pytest.fixture
def under(database_url: str, data_dir: Path) -> Iterator[Under]:
    """Opens more schedulers on the same database, as other processes do, under these windows."""
    with ExitStack() as opened:
        yield lambda windows: opened.enter_context(open_scheduler(database_url, data_dir, Policy(off_peak=windows)))


def test_a_job_of_the_window_starts_when_it_opens(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    night = submit(scheduler, priority=50.0)
    assert gpu.claim() is None
    any_time = submit(scheduler, window=None)
    clock.advance(10 * HOUR - 0.001)
    assert run_all(gpu) == [any_time.id]

    clock.advance(0.001)

    assert run_all(gpu) == [night.id]


def test_one_that_comes_while_it_is_open_starts_at_once(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    clock.advance(11 * HOUR)
    night = submit(scheduler)

    assert (night.not_before, night.ready_at, night.window) == (0.0, clock.seconds, Window.OFF_PEAK)
    assert gpu.must_claim().job_id == night.id


def test_what_has_not_started_by_its_end_waits_for_the_next(scheduler: Scheduler, clock: Clock) -> None:
    """Only workers run: none of the maintenance does."""
    gpu = register_gpu(scheduler)
    clock.advance(11 * HOUR)
    nights = [submit(scheduler, priority=9.0) for _ in range(3)]
    clock.advance(7 * HOUR)
    any_time = submit(scheduler, window=None)

    assert run_all(gpu) == [any_time.id]
    opens_at = clock.seconds + 16 * HOUR
    assert [scheduler.queue.get(job.id).not_before for job in nights] == [opens_at] * 3
    assert [scheduler.queue.get(job.id).ready_at for job in nights] == [opens_at] * 3
    assert run_all(gpu) == []
    clock.advance(16 * HOUR)
    assert run_all(gpu) == [job.id for job in nights]


def test_a_night_that_nobody_claims_in_holds_up_no_other_job(scheduler: Scheduler, clock: Clock) -> None:
    """More than a claim puts into the line have come due, and were never put there."""
    gpu = register_gpu(scheduler)
    scheduler.queue.submit_many([new_job(window=Window.OFF_PEAK) for _ in range(130)])
    clock.advance(19 * HOUR)
    retried = submit(scheduler, window=None)
    scheduler.leases.retry(gpu.must_claim(), ERROR)
    clock.advance(5)

    assert gpu.must_claim().job_id == retried.id
    with scheduler.database.read() as conn:
        waiting = select(s.job_states.c.not_before).where(s.job_states.c.start_window.is_not(None)).distinct()
        assert conn.execute(waiting).scalars().all() == [clock.seconds - 5 + 15 * HOUR]


def test_one_that_runs_at_its_end_runs_on(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    clock.advance(18 * HOUR - 1)
    night = submit(scheduler)
    lease = gpu.must_claim()
    clock.advance(2)

    scheduler.leases.succeed(lease, RESULT, MEASURED)

    assert scheduler.queue.get(night.id).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("back", ["release", "retry"])
def test_one_that_comes_back_after_its_end_waits_for_the_next(scheduler: Scheduler, clock: Clock, back: str) -> None:
    gpu = register_gpu(scheduler)
    clock.advance(18 * HOUR - 1)
    started = submit(scheduler)
    lease = gpu.must_claim()
    clock.advance(2)
    if back == "release":
        scheduler.leases.release(lease)
    else:
        scheduler.leases.retry(lease, ERROR)
    assert why(scheduler, started) is Blocker.WINDOW
    clock.advance(60)
    waiting = submit(scheduler, window=None)

    assert run_all(gpu) == [waiting.id]
    job = scheduler.queue.get(started.id)
    assert job.ready_at == started.ready_at  # its wait was before its first start
    clock.advance(16 * HOUR - 62)
    assert gpu.claim() is None
    clock.advance(1)
    assert gpu.must_claim().job_id == started.id


def test_a_backoff_that_ends_while_it_is_open_is_only_that(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    clock.advance(11 * HOUR)
    job = submit(scheduler)
    scheduler.leases.retry(gpu.must_claim(), ERROR)

    assert why(scheduler, job) is Blocker.RETRY_BACKOFF
    clock.advance(5)
    assert gpu.must_claim().job_id == job.id


def test_those_that_wait_for_it_start_in_the_queues_order(scheduler: Scheduler, clock: Clock) -> None:
    """More than one claim puts into the line; of last night's those are first that waited then."""
    gpu = register_gpu(scheduler)
    priorities = [1.0 + number * 37 % 130 / 10 for number in range(130)]
    answers = scheduler.queue.submit_many(
        [new_job(window=Window.OFF_PEAK, priority=priority) for priority in priorities]
    )
    jobs = [one.job for one in answers if not isinstance(one, Exception)]
    clock.advance(10 * HOUR)

    assert run_all(gpu) == [job.id for job in sorted(jobs, key=lambda job: -job.priority)]


def test_the_callers_own_time_holds_as_well(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    after_it = submit(scheduler, not_before=clock.seconds + 19 * HOUR)
    within_it = submit(scheduler, not_before=clock.seconds + 12 * HOUR)

    assert after_it.not_before == clock.seconds + 34 * HOUR
    assert within_it.not_before == clock.seconds + 12 * HOUR
    assert [why(scheduler, job) for job in (after_it, within_it)] == [Blocker.WINDOW, Blocker.NOT_BEFORE]
    clock.advance(11 * HOUR)
    assert gpu.claim() is None
    clock.advance(HOUR)
    assert run_all(gpu) == [within_it.id]


def test_a_deadline_before_the_next_opening_is_refused(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    with pytest.raises(InvalidParameter, match=r"^deadline must be after the window opens, at \S+ 22:00 \(UTC\)$"):
        submit(scheduler, deadline_at=clock.seconds + 10 * HOUR)

    assert submit(scheduler, deadline_at=clock.seconds + 10 * HOUR + 1).deadline_at is not None


def test_a_deadline_that_passes_before_the_window_is_back_fails_the_job(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    clock.advance(11 * HOUR)
    job = submit(scheduler, deadline_at=clock.seconds + 8 * HOUR)
    clock.advance(8 * HOUR)
    scheduler.reaper.run_once()

    assert scheduler.queue.get(job.id).status is JobStatus.FAILED


def test_without_a_window_none_can_be_asked_for(under: Under) -> None:
    scheduler = under(None)
    register_gpu(scheduler)

    with pytest.raises(InvalidParameter, match="no off-peak window is set here") as refused:
        submit(scheduler)
    assert refused.value.field == "window"


def test_a_job_explains_what_it_waits_for_and_when_it_should_start(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    job = submit(scheduler)

    info = scheduler.queue.explain(job)

    assert info is not None
    opens_at = clock.seconds + 10 * HOUR
    assert info.wait.code is Blocker.WINDOW
    assert info.wait.message.startswith("waits for the off-peak window, which opens at 2027-01-")
    assert info.wait.message.endswith("22:00 (UTC)")
    assert info.wait.details == {"window": "off_peak", "until_at": opens_at, "time_zone": "UTC"}
    assert info.start is not None
    assert info.start.p50 == opens_at


def test_those_that_start_together_stand_behind_each_other(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    jobs = [submit(scheduler, priority=priority) for priority in (1.0, 3.0, 2.0)]

    infos = scheduler.queue.explain_all(jobs)

    opens_at, seconds = clock.seconds + 10 * HOUR, jobs[0].footprint.seconds
    starts = [info.start.p50 for info in infos if info is not None and info.start is not None]
    assert [info.position for info in infos if info is not None] == [3, 1, 2]
    assert starts == pytest.approx([opens_at + 2 * seconds, opens_at, opens_at + seconds])


def test_an_outlook_knows_the_window(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    submit(scheduler)
    job = new_job()

    place = scheduler.queue.outlook(job.model, job.params, window=Window.OFF_PEAK)

    assert (place.position, place.wait.code) == (2, Blocker.WINDOW)
    assert place.start is not None
    assert place.start.p50 > clock.seconds + 10 * HOUR
    assert scheduler.queue.outlook(job.model, job.params).position == 1


def test_jobs_that_wait_for_it_are_put_off_in_the_queues_figures(scheduler: Scheduler, clock: Clock) -> None:
    """Also those that its end has caught in the line, though nobody claims."""
    register_gpu(scheduler)
    scheduler.off_peak.run_once()
    submit(scheduler)
    clock.advance(11 * HOUR)
    caught = submit(scheduler)
    assert scheduler.off_peak.run_once() is None
    clock.advance(8 * HOUR)
    assert why(scheduler, caught) is Blocker.WINDOW

    told = scheduler.off_peak.run_once()

    assert told is not None
    assert told.startswith("the off-peak window is closed: jobs put off to ")
    assert told.endswith(" 22:00 (UTC): 2"), "the one that was never put into the line among them"
    state = scheduler.control.state()
    assert (state.ready, state.deferred, state.oldest_wait_seconds) == (0, 2, None)
    assert scheduler.off_peak.run_once() is None


def test_waiting_for_it_is_no_wait(scheduler: Scheduler, clock: Clock) -> None:
    """What the alarm for waiting sees."""
    gpu = register_gpu(scheduler)
    submit(scheduler)
    clock.advance(10 * HOUR + 3)
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)

    with scheduler.database.read() as conn:
        state = conn.execute(select(s.job_states)).one()
    assert state.started_at - state.ready_at == 3


def test_a_job_kept_waiting_for_memory_gives_up_its_gpu_at_the_end(scheduler: Scheduler, clock: Clock) -> None:
    """A GPU is kept for a job of the window; once that is closed the GPU is everybody's again."""
    gpu = register_gpu(scheduler)
    clock.advance(17 * HOUR)
    lease = gpu.must_claim() if submit(scheduler) else None
    assert lease is not None
    large = submit(scheduler, width=704, height=704, num_frames=32, priority=100.0)
    clock.advance(400)
    gpu.claim(free_bytes=gpu.info.total_bytes // 2)
    with scheduler.database.read() as conn:
        kept = conn.execute(select(s.reservations.c.job_id)).scalars().all()
    assert kept == [large.id]
    clock.advance(HOUR)
    any_time = submit(scheduler, window=None)

    assert run_all(gpu) == [any_time.id]
    with scheduler.database.read() as conn:
        assert conn.execute(select(s.reservations)).all() == []


def test_a_setting_that_has_changed_moves_those_that_wait(scheduler: Scheduler, clock: Clock, under: Under) -> None:
    register_gpu(scheduler)
    assert scheduler.off_peak.run_once() is None
    plain, own = submit(scheduler), submit(scheduler, not_before=clock.seconds + 30 * HOUR)
    any_time = submit(scheduler, window=None, not_before=clock.seconds + HOUR)

    changed = under(LATER)
    assert (
        changed.off_peak.run_once() == "jobs that wait for the off-peak window: 2; it has been set to * 23 * * * (UTC)"
    )

    jobs = [scheduler.queue.get(job.id) for job in (plain, own, any_time)]
    assert [job.not_before for job in jobs] == [clock.seconds + hours * HOUR for hours in (11, 35, 1)]
    assert changed.off_peak.run_once() is None
    assert scheduler.off_peak.run_once() is None  # it has followed its own setting when it started


def test_a_window_that_opens_now_lets_those_start_that_wait(scheduler: Scheduler, clock: Clock, under: Under) -> None:
    scheduler.off_peak.run_once()
    register_gpu(scheduler)
    night = submit(scheduler)
    changed = under(read_windows("* 12 * * *", "UTC"))
    changed.off_peak.run_once()

    job = changed.queue.get(night.id)

    assert (job.not_before, job.ready_at, job.virtual_at) == (0.0, clock.seconds, clock.seconds)
    assert job.rank > night.rank


def test_a_setting_that_is_gone_lets_them_start_at_any_time(scheduler: Scheduler, clock: Clock, under: Under) -> None:
    scheduler.off_peak.run_once()
    register_gpu(scheduler)
    night, own = submit(scheduler), submit(scheduler, not_before=clock.seconds + HOUR)
    without = under(None)

    told = without.off_peak.run_once()

    assert told == "jobs that wait for the off-peak window: 2; it has been removed: they start at any time"
    gpu = register_gpu(without, "GPU-1")
    assert run_all(gpu) == [night.id]
    clock.advance(HOUR)
    assert run_all(gpu) == [own.id]


def test_more_jobs_than_are_moved_at_once_are_moved(
    scheduler: Scheduler, clock: Clock, under: Under, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.off_peak._BREATH_SECONDS", 0.0)
    scheduler.off_peak.run_once()
    register_gpu(scheduler)
    scheduler.queue.submit_many([new_job(window=Window.OFF_PEAK) for _ in range(520)])

    under(LATER).off_peak.run_once()

    with scheduler.database.read() as conn:
        times = conn.execute(select(s.job_states.c.not_before).distinct()).scalars().all()
    assert times == [clock.seconds + 11 * HOUR]


def test_several_front_ends_put_off_together(scheduler: Scheduler, clock: Clock, under: Under) -> None:
    """Whoever comes second finds nothing to do."""
    other = under(NIGHT)
    register_gpu(scheduler)
    clock.advance(11 * HOUR)
    for _ in range(5):
        submit(scheduler)
    clock.advance(8 * HOUR)

    told = [one.off_peak.run_once() for one in (scheduler, other, scheduler, other)]

    assert [one is not None for one in told] == [True, False, False, False]


def test_claims_of_many_workers_at_its_end_take_none_of_them(scheduler: Scheduler, clock: Clock, under: Under) -> None:
    """All of them find the same jobs late; what may start at any time is started, each job once."""
    workers = [register_gpu(under(NIGHT), f"GPU-{number}") for number in range(4)]
    clock.advance(11 * HOUR)
    scheduler.queue.submit_many([new_job(window=Window.OFF_PEAK, priority=50.0) for _ in range(200)])
    any_time = [submit(scheduler, window=None).id for _ in range(8)]
    clock.advance(8 * HOUR)

    with ThreadPoolExecutor(len(workers)) as threads:
        claims = [threads.submit(gpu.claim) for gpu in workers * 3]
        started = [lease.job_id for claim in claims if (lease := claim.result()) is not None]

    assert len(set(started)) == len(started)
    assert set(started) <= set(any_time)
    assert sorted([*started, *run_all(workers[0])]) == sorted(any_time)
    assert scheduler.control.state().deferred == 200


def test_a_job_that_slips_into_the_line_is_not_found(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is committed between a claim's look and its search: the search itself knows that it is closed."""
    gpu = register_gpu(scheduler)
    job = submit(scheduler)
    with scheduler.database.write() as conn:
        conn.execute(update(s.job_states).values(not_before=0.0))
    monkeypatch.setattr(Claims, "_keep_line", lambda *_: None)

    assert gpu.claim() is None
    assert scheduler.queue.get(job.id).status is JobStatus.QUEUED


def test_the_look_for_jobs_in_the_line_reads_an_index_of_them(scheduler: Scheduler) -> None:
    times = select(s.job_states.c.not_before).where(s.FOR_WINDOW).order_by(s.job_states.c.not_before).limit(1)

    assert "ix_job_states_window" in " ".join(query_plan(scheduler, times))
