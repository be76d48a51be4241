"""Bills: what each grouping says, and that all of them come to the same sum."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.accounting import Presence, Run, bill
from scheduler.bills import Bill, Line
from scheduler.costs import DAY_SECONDS
from scheduler.prices import Price, Prices, Terms

DAY = float(DAY_SECONDS)
START = 20_000 * DAY  # 2024-10-04
WINDOW = (START, START + 10 * DAY)
HOURLY = Prices(Price(3600.0))  # a second costs 1
CARD = "NVIDIA GeForce RTX 3090"
ALONE = Run("GPU-0", CARD, "studio", "tiny", START + 100, START + 200, "succeeded")


def line(lines: object, name: str) -> Line:
    (found,) = [one for one in lines if one.name == name]  # type: ignore[attr-defined]
    return found  # type: ignore[no-any-return]


def costs(runs: list[Run], prices: Prices = HOURLY, **fleet: Presence) -> Bill:
    return bill(runs, {name.replace("_", "-"): there for name, there in fleet.items()}, prices, WINDOW)


def test_a_job_that_runs_alone_costs_all_the_time_and_the_rest_is_idle() -> None:
    found = costs([ALONE], GPU_0=Presence(CARD, CARD, online_seconds=1000.0))
    (gpu,) = found.gpus
    assert (gpu.busy_seconds, gpu.idle_seconds, gpu.busy_cost, gpu.idle_cost) == (100.0, 900.0, 100.0, 900.0)
    assert (found.cost, found.idle_cost, found.jobs.cost) == (1000.0, 900.0, 100.0)
    (tenant,) = found.tenants
    assert (tenant.name, tenant.videos, tenant.run_seconds, tenant.cost, tenant.cost_per_video) == (
        "studio", 1, 100.0, 100.0, 100.0,
    )  # fmt: skip


def test_jobs_that_share_a_gpu_share_its_price() -> None:
    other = ALONE._replace(tenant="school", started_at=START + 150, ended_at=START + 250)
    found = costs([ALONE, other])
    assert [(one.name, one.cost, one.run_seconds) for one in found.tenants] == [
        ("school", 75.0, 100.0),
        ("studio", 75.0, 100.0),
    ]
    assert found.jobs.cost == found.cost == 150.0


def test_a_gpu_that_nobody_has_sampled_was_there_while_it_was_busy() -> None:
    (gpu,) = costs([ALONE]).gpus
    assert (gpu.kind, gpu.name, gpu.online_seconds, gpu.idle_seconds) == (CARD, None, 100.0, 0.0)


def test_a_gpu_that_was_not_there_is_left_out() -> None:
    found = costs([], GPU_0=Presence(CARD, CARD), GPU_1=Presence(CARD, CARD, 60.0))
    assert [gpu.gpu_id for gpu in found.gpus] == ["GPU-1"]
    assert (found.cost, found.idle_cost, found.jobs.cost, found.jobs.cost_per_video) == (60.0, 60.0, 0.0, None)


def test_only_the_part_within_the_window_counts() -> None:
    before = ALONE._replace(started_at=START - 300, ended_at=START + 100, energy_joules=400.0)
    after = ALONE._replace(started_at=WINDOW[1] - 50, ended_at=WINDOW[1] + 150, energy_joules=400.0)
    jobs = costs([before, after]).jobs
    assert (jobs.attempts, jobs.videos, jobs.run_seconds, jobs.cost) == (2, 1, 150.0, 150.0)
    assert jobs.energy_joules == pytest.approx(100.0 + 100.0)


def test_an_attempt_that_runs_costs_until_now() -> None:
    running = ALONE._replace(started_at=WINDOW[1] - 30, ended_at=None, outcome=None)
    found = costs([running])
    assert [(one.name, one.attempts, one.videos, one.cost) for one in found.outcomes] == [("running", 1, 0, 30.0)]


def test_a_clock_that_was_set_back_costs_nothing() -> None:
    assert costs([ALONE._replace(ended_at=START + 50, energy_joules=5.0)]).jobs.cost == 0.0


@pytest.mark.parametrize("outcome", ["failed", "retried", "expired"])
def test_what_failed_is_told_apart(outcome: str) -> None:
    lost = ALONE._replace(started_at=START, ended_at=START + 50, outcome=outcome)
    jobs = costs([ALONE, lost]).jobs
    assert (jobs.cost, jobs.failed_cost, jobs.failed_gpu_seconds, jobs.cost_per_video) == (150.0, 50.0, 50.0, 150.0)


@pytest.mark.parametrize("outcome", ["released", "cancelled"])
def test_what_was_asked_for_has_not_failed(outcome: str) -> None:
    assert costs([ALONE._replace(outcome=outcome)]).jobs.failed_cost == 0.0


def test_an_attempt_of_two_days_costs_on_both_and_is_counted_on_the_second() -> None:
    over_midnight = ALONE._replace(started_at=START + DAY - 60, ended_at=START + DAY + 20)
    found = costs([over_midnight])
    assert [(one.name, one.cost, one.attempts, one.videos) for one in found.days] == [
        ("2024-10-04", 60.0, 0, 0),
        ("2024-10-05", 20.0, 1, 1),
    ]


def test_stages_share_what_the_attempt_has() -> None:
    told = {"loading": 1.0, "gap": 7.0, "denoising": 8.0, "decoding": 1.0}
    run = ALONE._replace(stage_seconds=json.dumps(told))
    twin = run._replace(stage_seconds=None)
    assert costs([run, twin]).stages == pytest.approx(
        {"loading": 5.0, "denoising": 40.0, "decoding": 5.0, "unmeasured": 50.0}
    )


def test_energy_is_what_the_gpu_drew_or_else_what_attempts_measured() -> None:
    run = ALONE._replace(energy_joules=500.0)
    for seen, expected in ((None, 500.0), (900.0, 900.0)):
        found = costs([run], GPU_0=Presence(online_seconds=1000.0, energy_joules=seen))
        assert (found.energy_joules, found.jobs.energy_joules) == (expected, 500.0)
    assert costs([ALONE]).energy_joules is None


def test_without_a_price_there_are_seconds_and_no_money() -> None:
    found = costs([ALONE], Prices())
    assert (found.jobs.gpu_seconds, found.online_seconds) == (100.0, 100.0)
    money = (found.cost, found.idle_cost, found.month_cost, found.jobs.cost, found.jobs.failed_cost)
    assert money == (None,) * 5
    assert costs([], Prices()).cost is None


def test_a_gpu_without_a_price_leaves_no_sum_that_it_takes_part_in() -> None:
    prices = Prices(gpus={CARD: Price(3600.0, Terms.OWNED)})
    found = costs([ALONE, ALONE._replace(gpu_id="GPU-1", gpu_kind="other", tenant="school")], prices)
    assert [(gpu.gpu_id, gpu.cost) for gpu in found.gpus] == [("GPU-0", 100.0), ("GPU-1", None)]
    assert [(one.name, one.cost, one.failed_cost) for one in found.tenants] == [
        ("school", None, None),
        ("studio", 100.0, 0.0),
    ]
    assert (found.cost, found.jobs.cost) == (None, None)


def test_the_most_telling_name_has_the_price() -> None:
    prices = Prices(Price(1.0), {"GPU-0": Price(4.0), "lab": Price(3.0, Terms.SPOT), CARD: Price(2.0)})
    for names, hour in ((("GPU-0", "lab", CARD), 4), (("x", "lab", CARD), 3), (("x", None, CARD), 2), (("x",), 1)):
        price = prices.of(*names)
        assert price is not None
        assert price.hour == hour


def test_a_month_goes_at_the_pace_since_the_first_that_is_known() -> None:
    ten_days = replace(Presence(), online_seconds=10 * DAY)
    assert costs([], GPU_0=ten_days).month_cost == pytest.approx(30 * DAY)
    last_day = ALONE._replace(started_at=WINDOW[1] - DAY, ended_at=WINDOW[1] - DAY / 2)
    assert costs([last_day]).month_cost == pytest.approx(15 * DAY)
    assert costs([]).month_cost is None


_MOMENTS = st.integers(-1000, 12 * DAY_SECONDS).map(lambda seconds: START + seconds)
_STAGES = st.none() | st.fixed_dictionaries({"denoising": st.floats(0, 100), "decoding": st.floats(0, 100)})
RUNS = st.lists(
    st.builds(
        lambda gpu, tenant, model, two, outcome, joules, stages: Run(
            f"GPU-{gpu}",
            f"kind-{gpu}",
            tenant,
            model,
            min(two),
            max(two),
            outcome,
            joules,
            stages and json.dumps(stages),
        ),
        st.integers(0, 2),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["m", "n"]),
        st.tuples(_MOMENTS, _MOMENTS),
        st.sampled_from(["succeeded", "failed", "released"]),
        st.none() | st.floats(0, 1e6),
        _STAGES,
    ).filter(lambda run: run.started_at < WINDOW[1] and run.ended_at is not None and run.ended_at > WINDOW[0]),
    max_size=25,
)


@given(RUNS)
def test_every_grouping_comes_to_the_same_sum_and_that_with_idle_time_to_all_that_gpus_were_there(
    runs: list[Run],
) -> None:
    prices = Prices(Price(0.5), {"kind-1": Price(1.25), "GPU-2": Price(0.0)})
    fleet = {f"GPU-{number}": Presence(online_seconds=number * 4 * DAY) for number in range(4)}
    found = bill(runs, fleet, prices, WINDOW)
    assert found.cost is not None
    assert found.jobs.cost is not None
    assert found.idle_cost is not None
    for lines in (found.tenants, found.models, found.days, found.outcomes):
        for name in ("attempts", "videos", "run_seconds", "gpu_seconds", "failed_gpu_seconds", "cost", "failed_cost"):
            total = sum(getattr(one, name) for one in lines)
            assert total == pytest.approx(getattr(found.jobs, name), abs=1e-6), name
    assert found.jobs.attempts == len(runs)
    assert found.jobs.gpu_seconds == pytest.approx(found.busy_seconds, abs=1e-6)
    assert sum(found.stages.values()) == pytest.approx(found.busy_seconds, abs=1e-6)
    assert found.busy_seconds + found.idle_seconds == pytest.approx(found.online_seconds, abs=1e-6)
    assert found.jobs.cost + found.idle_cost == pytest.approx(found.cost, abs=1e-6)
