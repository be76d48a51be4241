"""Schedules in virtual time: the loop, the simple policies and the scheduler itself."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.schedule import reelq
from benchmarks.schedule.arrivals import LARGEST, Arrival, drawn, stream
from benchmarks.schedule.events import Ended, Run, Start, play
from benchmarks.schedule.fleet import FLEET, fastest_seconds, need
from benchmarks.schedule.outcome import bound, figures, p95
from benchmarks.schedule.simple import Blind, StrictFifo
from scheduler.params import VideoParams
from scheduler.policy import Order

SMALL = (512, 512, 16)
BIGGEST = len(FLEET) - 1


def job(number: int, shape: tuple[int, int, int] = SMALL, at: float = 0.0) -> Arrival:
    return Arrival(number, at, "someone", VideoParams(*shape, 50, 9.0, 16, seed=0))


class OnOneGpu:
    """Starts jobs of ten seconds on the first GPU alone."""

    slots = 2

    def __init__(self) -> None:
        self.line: deque[Arrival] = deque()

    def submit(self, job: Arrival, at: float) -> None:
        self.line.append(job)

    def start(self, gpu: int, slot: int, at: float, beside: Sequence[Run]) -> Start | None:
        return Start(self.line.popleft(), 10.0) if gpu == 0 and self.line else None

    def finish(self, run: Run, at: float) -> None:
        pass


def test_jobs_on_one_gpu_share_its_time() -> None:
    ended = play(OnOneGpu(), [job(0), job(1, at=4.0)], seed=1)
    # Six seconds of the first are left when the second comes; they take twelve, and the second has four left then.
    assert [(one.start.job.number, one.ended_at) for one in ended] == [(0, pytest.approx(16)), (1, pytest.approx(20))]


def test_under_strict_fifo_the_head_blocks() -> None:
    ended = play(StrictFifo(), [job(0, LARGEST), job(1, LARGEST), job(2)], seed=1)
    started = {one.start.job.number: one.started_at for one in ended}
    assert [one.gpu for one in ended if one.start.job.number < 2] == [BIGGEST, BIGGEST]
    assert started[2] == started[1] > 0.0


def test_the_blind_policy_fails_where_a_job_does_not_fit_and_loses_it_in_the_end() -> None:
    jobs = [job(number, LARGEST) for number in range(8)]
    ended = play(Blind(), jobs, seed=1)
    failed = [one for one in ended if one.start.fails]
    assert failed
    assert all(one.gpu != BIGGEST for one in failed)
    told = figures(jobs, ended)
    assert told["out_of_memory"] == len(failed)
    assert told["never_ran"] == 8 - sum(not one.start.fails for one in ended)


@pytest.mark.parametrize(
    ("order", "slots", "share"), [(Order.WEIGHTED, 1, 1.0), (Order.WEIGHTED, 2, None), (Order.FIFO, 1, None)]
)
def test_the_scheduler_runs_every_job_in_virtual_time(
    tmp_path: Path, order: Order, slots: int, share: float | None
) -> None:
    jobs = stream(drawn(40, seed=2), 0.9, seed=2)
    with reelq.opened(tmp_path / "data", order=order, slots=slots, share=share) as policy:
        ended = play(policy, jobs, seed=2)
    assert sorted(one.start.job.number for one in ended) == [job.number for job in jobs]
    assert all(one.started_at >= one.start.job.at for one in ended)
    assert all(_alone(one) <= one.ended_at - one.started_at + 1e-6 for one in ended)
    most, told = bound(jobs), figures(jobs, ended)
    for name in ("capacity", "videos_per_gpu_hour"):
        reached, limit = told[name], most[name]
        assert reached is not None
        assert limit is not None
        assert reached <= limit * (1 + 1e-9)


def _alone(one: Ended) -> float:
    return fastest_seconds(one.start.job.params, FLEET[one.gpu])


def test_the_scheduler_keeps_its_order_in_virtual_time(tmp_path: Path) -> None:
    jobs = [job(number, at=float(number)) for number in range(12)]
    with reelq.opened(tmp_path / "data", order=Order.FIFO) as policy:
        ended = play(policy, jobs, seed=1)
    assert [one.start.job.number for one in sorted(ended, key=lambda one: one.started_at)] == list(range(12))
    first = ended[0]
    assert first.ended_at - first.started_at == pytest.approx(need(jobs[0].params, FLEET[first.gpu]).seconds)


def test_p95_is_a_value_that_was_there() -> None:
    assert p95(range(1, 101)) == 95
    assert p95([3.0]) == 3.0
    assert p95([]) is None
