"""When a job should start and end: by hand, as properties, and against a simulation of the queue."""

import heapq
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import outlook
from scheduler.outlook import PRIOR, Pace, Span, Work

SURE = Pace(mean=1.0, median=1.0, p90=1.0, shared=0.0)

seconds = st.floats(0.01, 1000)
workers = st.lists(st.floats(0, 1000), min_size=1, max_size=6)
jobs = st.lists(seconds, max_size=12)
paces = st.builds(
    lambda mean, skew, spread, shared: Pace(mean, mean * skew, mean * skew * (1 + spread), shared),
    st.floats(0.2, 5),
    st.floats(0.6, 1),
    st.floats(0, 1.5),
    st.floats(0, 1),
)


def work(ahead: list[float], one_by_one: int = 8) -> Work:
    """As the line tells it: few jobs each by itself, many as a sum."""
    first = ahead if len(ahead) <= one_by_one else []
    return Work(first, sum(ahead) - sum(first), max(ahead, default=0.0))


@pytest.mark.parametrize(
    ("free_after", "ahead", "starts_at"),
    [
        ([0.0], [], 0.0),
        ([7.0, 3.0], [], 3.0),
        ([5.0], [10.0, 20.0], 35.0),
        ([0.0, 0.0], [10.0], 0.0),
        ([0.0, 0.0], [10.0, 4.0], 4.0),
        ([0.0, 2.0], [10.0, 4.0, 1.0], 7.0),
    ],
)
def test_few_jobs_are_handed_out_one_by_one(free_after: list[float], ahead: list[float], starts_at: float) -> None:
    assert outlook.start(free_after, work(ahead), SURE) == Span(starts_at, starts_at)


@pytest.mark.parametrize(
    ("free_after", "total", "starts_at"),
    [([0.0], 30.0, 30.0), ([0.0, 10.0], 30.0, 20.0), ([0.0, 50.0], 30.0, 30.0), ([4.0, 4.0, 90.0], 0.0, 4.0)],
)
def test_many_jobs_fill_the_workers_to_one_level(free_after: list[float], total: float, starts_at: float) -> None:
    assert outlook.start(free_after, Work(rest_seconds=total), SURE).p50 == starts_at


def test_the_pace_stretches_the_work_ahead() -> None:
    slow = Pace(mean=1.5, median=1.5, p90=1.5, shared=1.0)

    assert outlook.start([0.0], work([10.0, 10.0]), slow).p50 == 30.0
    assert outlook.finish(Span(30.0, 30.0), 10.0, slow) == Span(45.0, 45.0)


def test_shared_errors_add_up_and_independent_ones_in_quadrature() -> None:
    ahead = Work(rest_seconds=100.0, longest_seconds=1.0)

    together = outlook.start([0.0], ahead, Pace(1.0, 1.0, 1.5, shared=1.0))
    each_its_own = outlook.start([0.0], ahead, Pace(1.0, 1.0, 1.5, shared=0.0))

    assert together == Span(100.0, 150.0)
    assert each_its_own == Span(100.0, 105.0)


@given(workers, jobs, st.integers(0, 12), seconds, paces)
def test_more_work_ahead_never_starts_a_job_earlier(
    free_after: list[float], ahead: list[float], at: int, extra: float, pace: Pace
) -> None:
    before = outlook.start(free_after, work(ahead), pace)
    after = outlook.start(free_after, work([*ahead[:at], extra, *ahead[at:]]), pace)

    assert not_later(before.p50, after.p50)
    assert not_later(before.p90, after.p90)


@given(workers, jobs, st.floats(0, 1000), paces)
def test_one_more_worker_never_starts_a_job_later(
    free_after: list[float], ahead: list[float], another: float, pace: Pace
) -> None:
    alone = outlook.start(free_after, work(ahead), pace)
    helped = outlook.start([*free_after, another], work(ahead), pace)

    assert not_later(helped.p50, alone.p50)
    assert not_later(helped.p90, alone.p90)


@given(workers, jobs, seconds, paces)
def test_a_job_ends_after_it_starts_and_sure_is_later_than_likely(
    free_after: list[float], ahead: list[float], own: float, pace: Pace
) -> None:
    start = outlook.start(free_after, work(ahead), pace)
    finish = outlook.finish(start, own, pace)

    assert min(free_after) <= start.p50 <= start.p90
    assert start.p50 < finish.p50 <= finish.p90
    assert not_later(start.p90, finish.p90)


def not_later(one: float, other: float) -> bool:
    return one <= other * (1 + 1e-9) + 1e-9


def test_too_few_attempts_teach_nothing() -> None:
    assert outlook.learn([3.0] * (outlook.LEAST_RATIOS - 1)) is PRIOR
    assert outlook.learn([3.0] * outlook.LEAST_RATIOS) == Pace(3.0, 3.0, 3.0, 1.0)


@pytest.mark.parametrize(("own", "common"), [(0.3, 0.0), (0.2, 0.2), (0.05, 0.3)])
def test_what_is_learnt_is_how_the_attempts_were(own: float, common: float) -> None:
    """200 attempts; those of one block of ten ran in the same good or bad time."""
    dice = random.Random(3)  # noqa: S311  a simulation
    ratios = []
    for _ in range(20):
        times = math.exp(dice.gauss(0, common))
        ratios += [1.4 * times * math.exp(dice.gauss(0, own)) for _ in range(10)]

    pace = outlook.learn(ratios)

    assert pace.median == pytest.approx(1.4, rel=0.15)
    assert pace.p90 == pytest.approx(1.4 * math.exp(1.2816 * math.hypot(own, common)), rel=0.15)
    assert pace.shared == pytest.approx(common**2 / (own**2 + common**2), abs=0.2)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("ahead", [0, 5, 20, 100])
@pytest.mark.parametrize(("own", "common"), [(0.25, 0.1), (0.15, 0.2)])
def test_it_agrees_with_a_simulated_queue(count: int, ahead: int, own: float, common: float) -> None:
    told, simulated = tell_and_simulate(count, ahead, own, common)

    for span, times in zip(told, simulated, strict=True):
        assert span.p50 == pytest.approx(times[len(times) // 2], rel=0.06, abs=0.5 * OWN_SECONDS)
        assert 0.8 <= covered(span, times) <= 0.99


def test_nine_of_ten_are_not_later_than_they_should_be() -> None:
    """On the whole, over few and many workers and jobs."""
    cases = [tell_and_simulate(count, ahead, 0.2, 0.1) for count in (1, 2, 3, 8) for ahead in (0, 1, 4, 16, 64, 256)]

    for which in (0, 1):
        mean = statistics.fmean(covered(told[which], simulated[which]) for told, simulated in cases)
        assert mean == pytest.approx(0.92, abs=0.03)


OWN_SECONDS = 40.0
RUNS = 500


def tell_and_simulate(
    count: int, ahead: int, own: float, common: float
) -> tuple[tuple[Span, Span], tuple[list[float], list[float]]]:
    """What is told of the start and the end of a job, and these of `RUNS` runs of the queue, sorted.

    The workers are in the middle of jobs, those ahead are of 10 to 70 s, and run times err as the pace says.
    """
    dice = random.Random(f"{count} {ahead} {own}")  # noqa: S311  a simulation
    running = [OWN_SECONDS * (number + dice.random()) / count for number in range(count)]
    line = [dice.uniform(10, 70) for _ in range(ahead)]
    sigma = math.hypot(own, common)
    pace = Pace(math.exp(sigma**2 / 2), 1.0, math.exp(1.2816 * sigma), common**2 / sigma**2)
    start = outlook.start(running, work(line, one_by_one=64), pace)
    runs = [simulate(dice, running, line, own, common) for _ in range(RUNS)]
    times = sorted(run[0] for run in runs), sorted(run[1] for run in runs)
    return (start, outlook.finish(start, OWN_SECONDS, pace)), times


def simulate(
    dice: random.Random, running: list[float], line: list[float], own: float, common: float
) -> tuple[float, float]:
    """When the job that waits for `line` starts and ends, once."""
    times = math.exp(dice.gauss(0, common))

    def run(predicted: float) -> float:
        return predicted * times * math.exp(dice.gauss(0, own))

    free_at = [run(left) for left in running]
    heapq.heapify(free_at)
    for predicted in line:
        heapq.heapreplace(free_at, free_at[0] + run(predicted))
    return free_at[0], free_at[0] + run(OWN_SECONDS)


def covered(span: Span, times: list[float]) -> float:
    return sum(one <= span.p90 for one in times) / len(times)
