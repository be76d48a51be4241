"""What one more card would have changed: replays whose answers can be reckoned by hand."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduler.footprint import Footprint
from scheduler.footprints import PriorPredictor
from scheduler.params import VideoParams
from scheduler.policy import Order, Policy
from scheduler.records import Gpu, GpuSample, ServedModel
from scheduler.replay import Arrival, Card, Comparison, Replayed, Seat, compare
from scheduler.states import GpuState
from tests.support.fleet import GIB, MODEL, PARAMS, gpu_info

FIFO = Policy(order=Order.FIFO)


class TenGib(PriorPredictor):
    """Everything takes 4 GiB of weights, 6 of work (12 for wide videos) and a second for each step."""

    def predict(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> Footprint:
        working = 12 if params.width > 512 else 6
        return Footprint(plan, 4 * GIB, working * GIB, float(params.num_inference_steps))


def gpu(**changes: Any) -> Gpu:
    return Gpu(
        info=gpu_info(**changes), state=GpuState.ACTIVE, reason=None, actor=None, state_changed_at=0.0,
        sample=GpuSample(None, None), seen_at=0.0, online=True, drain=None, reservation=None, workers=(), leases=(),
    )  # fmt: skip


def arrivals(*times: float, **changes: Any) -> list[Arrival]:
    """Jobs of ten seconds each."""
    return [Arrival(at, MODEL.id, replace(PARAMS, num_inference_steps=10, **changes)) for at in times]


def compared(jobs: list[Arrival], *cards: Card, fleet: list[Seat] | None = None) -> Comparison:
    seats = [Seat(gpu(), hour=1.0)] if fleet is None else fleet
    found = compare(seats, cards, jobs, {MODEL.id: MODEL}, TenGib(), FIFO)
    assert found is not None
    return found


def with_card(jobs: list[Arrival], **card: Any) -> Replayed:
    facts: dict[str, Any] = {"memory_bytes": 24 * GIB, "speed": 1.0, "hour": 1.0}
    return compared(jobs, Card("card", **(facts | card))).trials[0].with_card


def test_one_gpu_runs_one_job_after_another() -> None:
    found = compared(arrivals(0, 0, 0, 100))
    assert found.arrivals == 4
    assert found.as_is == Replayed(
        videos=4,
        impossible=0,
        wait_seconds_mean=(0 + 10 + 20 + 0) / 4,
        wait_seconds_p95=10.0,  # of four, the third is the last that lies within
        videos_per_hour=360.0,
        cost_per_video=pytest.approx(110 / 3600 / 4),
    )


def test_a_second_card_halves_what_waits_and_doubles_what_can_be_done() -> None:
    found = with_card(arrivals(0, 0, 0, 0))
    assert (found.wait_seconds_mean, found.videos_per_hour) == (5.0, 720.0)
    assert found.cost_per_video == pytest.approx(2 * 20 / 3600 / 4)


def test_a_faster_card_does_more() -> None:
    found = with_card(arrivals(0, 0, 0), speed=2.0)
    assert found.videos_per_hour == 360 + 720
    assert found.wait_seconds_mean == pytest.approx((0 + 0 + 5) / 3)


def test_a_larger_card_holds_what_nothing_could() -> None:
    jobs = arrivals(0, 1) + arrivals(2, width=768)
    small = [Seat(gpu(total_bytes=12 * GIB))]
    found = compared(jobs, Card("card", 24 * GIB, 1.0), fleet=small)
    assert (found.as_is.impossible, found.as_is.videos) == (1, 2)
    assert (found.trials[0].with_card.impossible, found.trials[0].with_card.videos) == (0, 3)


def test_a_card_too_small_for_the_work_changes_nothing() -> None:
    jobs = arrivals(0, 0, 5)
    found = compared(jobs, Card("small", 8 * GIB, 9.0, hour=0.0))
    assert found.trials[0].with_card == found.as_is
    assert compared(jobs, Card("none", GIB, 1.0)).trials == []


def test_priority_goes_first_where_the_order_says_so() -> None:
    """Three come at once while the GPU runs another: by weight the one with the priority is next."""
    jobs = [*arrivals(0), *arrivals(1, 1), replace(arrivals(1)[0], priority=100.0)]
    short = replace(jobs[3], params=replace(jobs[3].params, num_inference_steps=1))
    seats = [Seat(gpu())]
    waits = {
        order: compare(seats, (), [*jobs[:3], short], {MODEL.id: MODEL}, TenGib(), Policy(order=order))
        for order in (Order.FIFO, Order.SHORTEST_FIRST)
    }
    fifo, shortest = waits[Order.FIFO], waits[Order.SHORTEST_FIRST]
    assert fifo is not None
    assert shortest is not None
    assert fifo.as_is.wait_seconds_mean == (0 + 9 + 19 + 29) / 4
    assert shortest.as_is.wait_seconds_mean == (0 + 9 + 10 + 20) / 4


def test_a_price_that_is_not_known_makes_none() -> None:
    assert with_card(arrivals(0), hour=None).cost_per_video is None
    assert compared(arrivals(0), fleet=[Seat(gpu())]).as_is.cost_per_video is None


def test_a_card_without_a_speed_has_that_of_the_data_sheets() -> None:
    (trial,) = compared(arrivals(0), Card("NVIDIA H100 80GB", 80 * GIB)).trials
    assert trial.speed == pytest.approx(495 / 36)


def test_there_is_nothing_to_compare() -> None:
    assert compare([], [], arrivals(0), {}, TenGib(), FIFO) is None
    assert compare([Seat(gpu(kind="cpu"))], [], arrivals(0), {}, TenGib(), FIFO) is None
    assert compare([Seat(gpu())], [], [], {}, TenGib(), FIFO) is None


def test_a_model_that_nobody_knows_any_more_fits_nowhere() -> None:
    found = compare([Seat(gpu())], [], arrivals(0, 1), {}, TenGib(), FIFO)
    assert found is not None
    assert (found.as_is.impossible, found.as_is.videos, found.as_is.videos_per_hour) == (2, 0, 0.0)


def test_recorded_arrivals_wait_as_a_reckoning_of_first_come_first_served_says() -> None:
    """`arrivals.csv`, on one GPU: Lindley's recursion gives each wait from the one before."""
    with (Path(__file__).parent / "arrivals.csv").open() as file:
        rows = sorted((int(row["at"]), int(row["seconds"])) for row in csv.DictReader(file))
    jobs = [Arrival(at, MODEL.id, replace(PARAMS, num_inference_steps=max(1, seconds))) for at, seconds in rows]
    wait, waits, before = 0.0, [], (rows[0][0], 0)
    for at, seconds in rows:
        wait = max(0.0, wait + before[1] - (at - before[0]))
        waits.append(wait)
        before = at, max(1, seconds)
    found = compared(jobs, Card("card", 24 * GIB, 1.0))
    assert found.as_is.wait_seconds_mean == pytest.approx(sum(waits) / len(waits))
    assert found.as_is.wait_seconds_p95 == pytest.approx(sorted(waits)[int(0.95 * (len(waits) - 1))])
    assert found.trials[0].with_card.wait_seconds_mean < found.as_is.wait_seconds_mean
