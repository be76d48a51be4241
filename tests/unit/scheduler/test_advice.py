"""The advice: an answer that is known for each branch of the procedure."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduler.advice import (
    Advice,
    Diagnosis,
    Evidence,
    GpuUse,
    Growth,
    Payback,
    Refused,
    Sureness,
    Verdict,
    advise,
    quadrant,
    trend,
)
from scheduler.remedies import Remedy, RemedyName

DAY = 86_400.0
GB = 10**9
HIGH, LOW, UNKNOWN = Growth(high=True, given=True), Growth(high=False, given=True), Growth(None)
LEANER = Remedy(RemedyName.LEANER_PLAN, 1.0, 20 * 2**30, 15 * 2**30, 78.0, 85.0)


def gpu(memory: float | None = 0.5, utilization: float | None = 50.0, busy: float = 0.9, **changes: Any) -> GpuUse:
    """Return a week of a 24 GB card: shares of its memory and time, percent of its utilisation."""
    use = GpuUse(
        gpu_id="GPU-0",
        name="the card",
        total_bytes=24 * GB,
        peak_bytes=None if memory is None else memory * 24 * GB,
        utilization_percent=utilization,
        hot_share=0.1,
        seconds=7 * DAY,
        busy_seconds=busy * 7 * DAY,
    )
    return replace(use, **changes)


def advised(*gpus: GpuUse, growth: Growth = LOW, **changes: Any) -> Advice:
    facts: dict[str, Any] = {"gpus": gpus, "growth": growth, "attempts": 1000}
    return advise(Evidence(**(facts | changes)))


def test_the_published_example_is_to_advance_capacity() -> None:
    """Its text says a load of 92 %; its formula, the larger of 22.1/24 and 95 %, says 95."""
    card = gpu(22.1 / 24, 95.0, busy=1.0)
    assert card.memory_share == pytest.approx(0.9208, abs=1e-4)
    found = advised(card, growth=HIGH)
    assert found.evidence.heaviest is not None
    assert found.evidence.heaviest.load == 0.95
    assert (found.verdict, found.matrix) == (Verdict.ADVANCE, Verdict.ADVANCE)
    assert found.sentence == "Advance capacity: the load of the card is 95 % and expected growth is high."
    assert card.diagnosis is Diagnosis.COMPUTE


@pytest.mark.parametrize(
    ("load", "growth", "verdict"),
    [
        (0.69, LOW, Verdict.KEEP),
        (0.70, LOW, Verdict.OPTIMISE),
        (0.69, HIGH, Verdict.WATCH),
        (0.70, HIGH, Verdict.ADVANCE),
        (0.70, UNKNOWN, Verdict.OPTIMISE),
        (None, HIGH, Verdict.UNKNOWN),
    ],
)
def test_the_four_quarters_of_the_matrix(load: float | None, growth: Growth, verdict: Verdict) -> None:
    assert quadrant(load, growth) is verdict


@pytest.mark.parametrize(("memory", "utilization", "load"), [(0.8, 30.0, 0.8), (0.3, 75.0, 0.75), (None, 40.0, 0.4)])
def test_the_load_is_the_larger_share_of_those_that_are_known(
    memory: float | None, utilization: float, load: float
) -> None:
    assert gpu(memory, utilization).load == pytest.approx(load)


@pytest.mark.parametrize(
    ("card", "diagnosis"),
    [
        (gpu(0.95, 70.0), Diagnosis.MEMORY),
        (gpu(0.95, 90.0), Diagnosis.COMPUTE),
        (gpu(0.95, 30.0), Diagnosis.STARVED),
        (gpu(0.85, 30.0), Diagnosis.STARVED),
        (gpu(0.5, 30.0), Diagnosis.BALANCED),
        (gpu(0.95, 4.0, busy=0.05), Diagnosis.IDLE),
        (gpu(0.95, 20.0, busy=0.22), Diagnosis.COMPUTE),  # while it works it computes nearly all the time
        (gpu(None, 50.0), Diagnosis.UNKNOWN),
        (gpu(0.5, None), Diagnosis.UNKNOWN),
        (gpu(0.95, None), Diagnosis.MEMORY),
        (gpu(seconds=0.0, busy_seconds=0.0), Diagnosis.UNKNOWN),
    ],
)
def test_what_limits_a_gpu(card: GpuUse, diagnosis: Diagnosis) -> None:
    assert card.diagnosis is diagnosis


def test_often_out_of_memory_asks_for_leaner_plans_and_then_for_hardware() -> None:
    often: dict[str, Any] = {"out_of_memory": 50, "remedies": [LEANER]}
    found = advised(gpu(), **often, on_leanest=100)
    assert (found.verdict, found.matrix) == (Verdict.OPTIMISE, Verdict.KEEP)
    assert "5 % of the attempts ran out of memory, and there are leaner plans" in found.sentence
    assert "the next leaner plan would bring the peak from 20.0 to 15.0 GiB" in found.sentence
    found = advised(gpu(), **often, on_leanest=950)
    assert found.verdict is Verdict.ADVANCE
    assert "under the leanest plans already" in found.sentence


def test_the_sentence_names_the_remedy_for_what_is_lacking() -> None:
    lower = Remedy(RemedyName.LOWER_RESOLUTION, 1.0, 20 * 2**30, 19 * 2**30, 78.0, 40.0)
    for card, name in (
        (gpu(0.95, 90.0), "three quarters of the width and height would"),
        (gpu(0.95, 70.0), "the next leaner plan would"),
    ):
        assert name in advised(card, remedies=[LEANER, lower]).sentence
    assert "leaner plan" in advised(gpu(0.95, 90.0), remedies=[LEANER, lower], out_of_memory=50).sentence
    assert "would" not in advised(gpu(0.95, 90.0), remedies=[LEANER]).sentence, "it takes longer"
    assert "would" not in advised(gpu(0.95, 30.0), remedies=[LEANER, lower]).sentence, "nothing of it brings data"


def test_a_gpu_that_waits_for_data_needs_no_faster_one() -> None:
    found = advised(gpu(0.95, 30.0), growth=HIGH)
    assert (found.verdict, found.matrix) == (Verdict.OPTIMISE, Verdict.ADVANCE)
    assert "waits for the CPU" in found.sentence


@pytest.mark.parametrize(("growth", "verdict"), [(LOW, Verdict.KEEP), (HIGH, Verdict.WATCH)])
def test_a_gpu_that_is_full_of_weights_and_idle_is_no_reason_to_buy(growth: Growth, verdict: Verdict) -> None:
    found = advised(gpu(0.95, 2.0, busy=0.03), growth=growth)
    assert found.verdict is verdict
    assert "work in only 3 %" in found.sentence


def test_the_most_loaded_gpu_decides() -> None:
    found = advised(gpu(0.2, 10.0, name="a"), gpu(0.75, 60.0, name="b"), gpu(None, None, name="c"))
    assert found.verdict is Verdict.OPTIMISE
    assert "load of b" in found.sentence


def test_without_a_measurement_there_is_no_advice() -> None:
    found = advise(Evidence(growth=UNKNOWN))
    assert (found.verdict, found.sureness) == (Verdict.UNKNOWN, Sureness.LOW)
    assert found.sentence == "There is nothing to advise yet: nothing was measured of any GPU."
    assert [step.answer for step in found.steps] == [None] * 4
    assert not any(signal.active for signal in found.signals)


def test_each_question_has_its_answer_and_its_number() -> None:
    found = advised(gpu(0.5, 75.0), out_of_memory=10, on_leanest=900, growth=Growth.expected(0.5))
    assert [(step.answer, step.value) for step in found.steps] == [
        (False, 0.01),
        (True, 0.75),
        (True, 0.9),
        (True, 0.5),
    ]


def test_the_signals_for_an_upgrade() -> None:
    refused = [
        Refused("1536x1536x64", "unschedulable", 2, at_submit=True, needed_bytes=60 * 2**30),
        Refused("", "unschedulable", 1, at_submit=True, needed_bytes=80 * 2**30),
        Refused("1024x1024x32", "out_of_memory", 1),
    ]
    found = advised(
        gpu(hot_share=0.31), refused=refused, on_leanest=950, payback=Payback(card_price=600.0, saved_month=100.0)
    )
    assert {one.name: one.active for one in found.signals} == {
        "demand": True,
        "plans_exhausted": True,
        "payback": True,
        "utilization": True,
    }
    reasons = {one.name: one.reason for one in found.signals}
    assert reasons["demand"] == "4 jobs were refused or failed for want of memory: 1024x1024x32, 1536x1536x64, others"
    assert "6.0 months" in reasons["payback"]
    found = advised(gpu(hot_share=0.30), payback=Payback(600.0, None))
    assert not any(one.active for one in found.signals)
    assert not next(
        one for one in advised(gpu(), payback=Payback(1300.0, 100.0)).signals if one.name == "payback"
    ).active


@pytest.mark.parametrize(
    ("days", "attempts", "growth", "sureness"),
    [
        (7.0, 200, LOW, Sureness.HIGH),
        (7.0, 199, LOW, Sureness.MEDIUM),
        (2.0, 200, LOW, Sureness.MEDIUM),
        (7.0, 29, LOW, Sureness.LOW),
        (1.0, 900, LOW, Sureness.LOW),
        (7.0, 900, UNKNOWN, Sureness.LOW),
    ],
)
def test_how_sure_it_is(days: float, attempts: int, growth: Growth, sureness: Sureness) -> None:
    card = gpu(seconds=days * DAY, busy_seconds=days * DAY / 2)
    found = advised(card, attempts=attempts, growth=growth)
    assert found.sureness is sureness
    assert f"{attempts} attempts" in found.sureness_reason


def test_a_trend_is_the_line_through_the_days() -> None:
    rising = trend([100.0, 101.0, 102.0, 103.0, 104.0])
    assert (rising.high, rising.days) == (True, 5)
    assert rising.monthly == pytest.approx(30 / 102)
    assert trend([104.0, 103.0, 102.0]).high is False
    assert trend([50.0] * 7).monthly == 0.0


@pytest.mark.parametrize("daily", [[], [1.0], [1.0, 9.0], [0.0, 0.0, 0.0]])
def test_too_little_for_a_trend(daily: list[float]) -> None:
    assert trend(daily).high is None


def test_the_trend_of_recorded_arrivals_is_the_solution_of_the_normal_equations() -> None:
    """`arrivals.csv`, five minutes of it as a day."""
    with (Path(__file__).parent / "arrivals.csv").open() as file:
        rows = list(csv.DictReader(file))
    slices: Counter[int] = Counter()
    for row in rows:
        slices[int(row["at"]) // 300] += int(row["seconds"])
    daily = [float(slices[number]) for number in range(max(slices) + 1)]
    count, days = len(daily), range(len(daily))
    assert count >= 3
    sums = (sum(days), sum(daily), sum(d * d for d in days), sum(d * w for d, w in zip(days, daily, strict=True)))
    slope = (count * sums[3] - sums[0] * sums[1]) / (count * sums[2] - sums[0] ** 2)
    assert trend(daily).monthly == pytest.approx(slope * 30 / (sums[1] / count))
