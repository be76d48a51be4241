"""The advice over HTTP."""

from datetime import datetime
from typing import Any

import pytest

from scheduler.records import GpuSample
from tests.support.databases import Clock
from tests.support.databases import clock as stopped_clock
from tests.support.http import Site, check_problem

__all__ = ["stopped_clock"]  # a fixture

ADVICE = "/v1/admin/advice"
GIB = 2**30


@pytest.fixture
def clock(stopped_clock: Clock) -> Clock:
    """Show a time that the test moves on."""
    return stopped_clock


async def advice(site: Site, **query: Any) -> dict[str, Any]:
    answer = await site.client.get(ADVICE, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_nothing_was_measured_yet(site: Site) -> None:
    found = await advice(site)
    assert (found["object"], found["sureness"], found["attempts"]) == ("advice", "low", 0)
    assert found["advice"]
    since, until = (datetime.fromisoformat(found[name]) for name in ("since", "until"))
    assert (until - since).days == 7
    assert found["growth"] == {"high": None, "monthly": None, "source": "measured", "days": 0}


async def test_a_full_gpu_and_high_growth(clock: Clock, opened: Any) -> None:
    cards = '{"A": {"memory_bytes": 51539607552, "relative_speed": 2, "price": 700, "hour": 1.0}}'
    async with opened(gpu_prices='{"GPU-0": {"hour": 1.0, "terms": "on_demand"}}', cards=cards) as site:
        await site.submit()
        lease = site.gpu.must_claim()
        for _ in range(12):
            clock.advance(5)
            look = GpuSample(used_bytes=int(22.1 * GIB), free_bytes=0, utilization_percent=95.0)
            site.scheduler.fleet.sample("GPU-0", look)
        site.finish(lease)
        found = await advice(site, growth="high", card_price=700)
        low = await advice(site, growth="0.05")
    assert (found["verdict"], found["matrix"], found["load"]) == ("advance_capacity", "advance_capacity", 0.95)
    assert found["advice"].startswith("Advance capacity: the load of ")
    assert (found["sureness"], found["attempts"]) == ("low", 1)
    (gpu,) = found["gpus"]
    assert (gpu["gpu"], gpu["diagnosis"], gpu["hot_share"]) == ("GPU-0", "compute_bound", 1.0)
    assert [step["answer"] for step in found["steps"]] == [False, True, True, True]
    assert {one["name"]: one["active"] for one in found["signals"]}["utilization"]
    assert found["payback"]["saved_month"] > 0
    assert found["remedies"][0]["memory_gain"] > 0 or found["remedies"][0]["time_gain"] > 0
    as_is, (card,) = found["comparison"]["as_is"], found["comparison"]["cards"]
    assert (card["name"], card["relative_speed"], card["payback_months"]) == ("A", 2.0, found["payback"]["months"])
    assert card["fleet"]["videos_per_hour"] == pytest.approx(3 * as_is["videos_per_hour"])
    assert (low["verdict"], low["growth"]["source"], low["growth"]["monthly"]) == ("optimise_software", "given", 0.05)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, "since"),
        ({"growth": "some"}, "growth"),
        ({"growth": "nan"}, "growth"),
        ({"growth": "-2"}, "growth"),
        ({"card_price": "-1"}, "card_price"),
        ({"card_price": "inf"}, "card_price"),
        ({"by": "gpu"}, "by"),
    ],
)
async def test_what_is_wrong_is_named(site: Site, query: dict[str, str], field: str) -> None:
    answer = await site.client.get(ADVICE, params=query)
    problem = check_problem(answer, 422, "invalid_parameter")
    assert problem["errors"][0]["field"] == field
