"""The report of costs over HTTP."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.databases import Clock
from tests.support.databases import clock as stopped_clock
from tests.support.http import Site, check_problem

__all__ = ["stopped_clock"]  # a fixture

COSTS = "/v1/admin/costs"
KIND = "NVIDIA GeForce RTX 3090"
PRICES = f'{{"{KIND}": {{"hour": 36.0, "terms": "on_demand"}}}}'  # a second costs a hundredth


@pytest.fixture
def clock(stopped_clock: Clock) -> Clock:
    """Show the time of today: the sweeper takes files for nobody's that are of another day."""
    stopped_clock.seconds = float(int(time.time()))
    return stopped_clock


async def costs(site: Site, **window: str) -> dict[str, Any]:
    answer = await site.client.get(COSTS, params=window)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def run(site: Site, clock: Clock, seconds: float = 20.0) -> dict[str, Any]:
    job = await site.submit()
    lease = site.gpu.must_claim()
    clock.advance(seconds)
    site.finish(lease)
    return job


async def test_a_month_of_nothing(site: Site) -> None:
    found = await costs(site)
    assert found["object"] == "costs"
    assert found["prices"] == {"default": None, "gpus": {}, "energy_kwh": None}
    assert (found["tenants"], found["days"], found["jobs"]["gpu_seconds"]) == ([], [], 0)
    assert found["total"]["cost"] is None
    since, until = (datetime.fromisoformat(found[name]) for name in ("since", "until"))
    assert (until - since).days == 30
    assert abs((datetime.now(UTC) - until).total_seconds()) < 600


async def test_what_a_job_has_cost(clock: Clock, opened: Any) -> None:
    async with opened(gpu_prices=PRICES, energy_kwh_cost=0.3) as site:
        await run(site, clock)
        found = await costs(site)
    assert found["prices"]["gpus"] == {KIND: {"hour": 36.0, "terms": "on_demand"}}
    (gpu,) = found["gpus"]
    assert (gpu["gpu"], gpu["kind"], gpu["price"]) == ("GPU-0", KIND, {"hour": 36.0, "terms": "on_demand"})
    assert (gpu["busy_seconds"], gpu["busy_cost"]) == (20.0, pytest.approx(0.2))
    jobs = found["jobs"]
    assert (jobs["videos"], jobs["gpu_seconds"], jobs["cost"]) == (1, 20.0, pytest.approx(0.2))
    assert (jobs["energy_joules"], jobs["energy_cost"]) == (3000.0, pytest.approx(3000 / 3.6e6 * 0.3))
    for lines, name in (("tenants", "default"), ("models", site.gpu.info.model), ("outcomes", "succeeded")):
        assert found[lines] == [jobs | {"name": name}]
    assert sum(day["cost"] for day in found["days"]) == pytest.approx(0.2)
    total = found["total"]
    assert total["cost"] == pytest.approx(jobs["cost"] + total["idle_cost"])
    stages = {one["stage"]: one["share"] for one in found["stages"]}
    assert list(stages) == ["loading", "encoding", "denoising", "decoding", "muxing", "waiting", "idle"]
    assert stages["denoising"] == pytest.approx(4 * stages["decoding"])
    assert sum(stages.values()) == pytest.approx(1.0)


async def test_without_a_price_there_are_seconds_and_no_money(clock: Clock, site: Site) -> None:
    await run(site, clock)
    found = await costs(site)
    assert (found["jobs"]["gpu_seconds"], found["jobs"]["cost"], found["gpus"][0]["cost"]) == (20.0, None, None)
    total = ("cost", "idle_cost", "cost_per_video", "projected_month", "energy_cost")
    assert [found["total"][name] for name in total] == [None] * 5


async def test_a_quote_has_the_price_of_its_gpu(opened: Any) -> None:
    async with opened(gpu_prices=PRICES, gpu_hour_cost=1.0) as site:
        found = (await site.client.post("/v1/estimates", json={})).json()
        (model,) = (await site.client.get("/v1/models")).json()["data"]
    assert found["cost"] == pytest.approx(found["estimate"]["seconds"] / 100)
    preset = {one["name"]: one for one in model["presets"]}["standard"]
    assert preset["estimate"]["cost"] == pytest.approx(found["cost"])


@pytest.mark.parametrize(
    ("window", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"until": "2030-02-30T00:00:00Z"}, "until"),
        ({"by": "tenant"}, "by"),
    ],
)
async def test_a_window_that_is_none_is_refused(site: Site, window: dict[str, str], field: str) -> None:
    answer = await site.client.get(COSTS, params=window)
    problem = check_problem(answer, 422, "invalid_parameter")
    assert problem["errors"][0]["field"] == field


async def test_any_window_that_ends_later_than_it_begins_is_answered(site: Site) -> None:
    found = await costs(site, since="0001-01-01T00:00:00Z", until="9999-12-31T23:59:59Z")
    since, until = (datetime.fromisoformat(found[name]) for name in ("since", "until"))
    assert (until - since).days == site.settings.retention_days


@pytest.mark.parametrize("window", [{"since": "9999-12-31T23:59:59Z"}, {"until": "0001-01-02T00:00:00Z"}])
async def test_a_time_of_which_nothing_is_known_has_cost_nothing(site: Site, window: dict[str, str]) -> None:
    found = await costs(site, **window)
    assert (found["gpus"], found["jobs"]["attempts"]) == ([], 0)
