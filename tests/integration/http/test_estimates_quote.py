"""When a job would run if it were submitted now, and what that costs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.fleet import register_gpu
from tests.support.http import Site

TIMES = ("expected_start", "expected_finish")


async def quote(site: Site, **asked: Any) -> dict[str, Any]:
    answer = await site.client.post("/v1/estimates", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_on_an_idle_service_a_job_would_start_at_once(site: Site) -> None:
    found = await quote(site)
    assert (found["position"], found["position_exact"]) == (1, True)
    start, finish = (found[name] for name in TIMES)
    assert abs(seconds(start["p50"]) - datetime.now(UTC).timestamp()) < 60
    assert seconds(finish["p50"]) - seconds(start["p50"]) == pytest.approx(found["estimate"]["seconds"])
    assert start["p90"] >= start["p50"]
    assert finish["p90"] > finish["p50"]


async def test_what_waits_already_comes_first(site: Site) -> None:
    idle = await quote(site)
    for _ in range(3):
        await site.submit(priority="100")
    found = await quote(site)
    assert found["position"] == 4
    assert seconds(found["expected_start"]["p50"]) > seconds(idle["expected_finish"]["p50"])


async def test_a_priority_moves_it_forward(site: Site) -> None:
    for _ in range(3):
        await site.submit()
    assert (await quote(site, priority=100))["position"] == 1


async def test_the_quote_is_what_the_job_then_gets(site: Site) -> None:
    for _ in range(2):
        await site.submit()
    promised = await quote(site, num_frames=8)
    got = (await site.submit(num_frames="8"))["queue"]
    assert promised["position"] == got["position"]
    for name in TIMES:
        assert seconds(promised[name]["p50"]) == pytest.approx(seconds(got[name]["p50"]), abs=60)


async def test_where_nobody_can_tell_the_times_are_null(site: Site) -> None:
    site.scheduler.control.pause("maintenance", "me")
    found = await quote(site)
    assert [found[name] for name in TIMES] == [None, None]
    assert found["position"] == 1
    queue = (await site.submit())["queue"]
    assert (found["wait_reason"], found["wait"]) == (queue["wait_reason"], queue["wait"])
    assert found["wait"]["code"] == "queue_paused"


async def test_a_drained_gpu_is_why_there_is_no_start(site: Site) -> None:
    site.scheduler.fleet.drain("GPU-0", "new fans", "me")
    found = await quote(site)
    assert (found["expected_start"], found["wait"]["code"]) == (None, "draining")
    assert "new fans" in found["wait_reason"]


async def test_what_fits_nowhere_has_no_place_and_costs_nothing(opened: Any) -> None:
    async with opened(gpu_hour_cost=36.0) as site:
        found = await quote(site, width=1536, height=1536, num_frames=64)
    assert found["fits"] is False
    assert [found[name] for name in ("position", "position_exact", *TIMES, "wait", "cost")] == [None] * 6


async def test_without_a_price_there_is_no_cost(site: Site) -> None:
    assert (await quote(site))["cost"] is None


async def test_the_cost_is_that_of_the_seconds(opened: Any) -> None:
    async with opened(gpu_hour_cost=36.0) as site:
        found = await quote(site)
        (model,) = (await site.client.get("/v1/models")).json()["data"]
    assert found["cost"] == pytest.approx(found["estimate"]["seconds"] / 100)
    preset = {one["name"]: one for one in model["presets"]}["standard"]
    assert preset["estimate"]["cost"] == pytest.approx(found["cost"])


async def test_a_quote_keeps_nothing(site: Site) -> None:
    register_gpu(site.scheduler, "GPU-1")
    await quote(site)
    assert site.leftovers() == []
