"""The page Costs over HTTP."""

import re
import time
from html import unescape
from typing import Any

import pytest

from scheduler.keys import Scope
from scheduler.records import GpuSample
from tests.support.databases import Clock
from tests.support.databases import clock as stopped_clock
from tests.support.http import Site

__all__ = ["stopped_clock"]  # a fixture

BROWSER = {"Accept": "text/html"}
PRICES = '{"GPU-0": {"hour": 36.0, "terms": "on_demand"}}'  # a second costs a hundredth


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the front end asks about callers be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


@pytest.fixture
def clock(stopped_clock: Clock) -> Clock:
    """Show the time of today, at which the page's windows end."""
    stopped_clock.seconds = float(int(time.time()))
    return stopped_clock


async def look(site: Site, **query: str) -> str:
    page = await site.client.get("/costs", params=query, headers=BROWSER)
    assert page.status_code == 200, page.text
    return page.text


async def work(site: Site, clock: Clock, seconds: float = 20.0) -> None:
    """Run a job on a GPU that is sampled, and then leave the GPU idle for half as long."""
    site.scheduler.fleet.sample("GPU-0", GpuSample(used_bytes=0, free_bytes=0))
    await site.submit()
    lease = site.gpu.must_claim()
    clock.advance(seconds)
    site.finish(lease)
    clock.advance(seconds / 2)
    site.scheduler.fleet.sample("GPU-0", GpuSample(used_bytes=0, free_bytes=0))


def tiles(page: str) -> dict[str, str]:
    return {name: unescape(value).strip() for name, value in re.findall(r"<dt>([^<]*)</dt>\s*<dd>([^<]*)<", page)}


def table(page: str, name: str) -> tuple[list[list[str]], list[str]]:
    """Return the exact values of a table's rows, and of the row of their sum."""
    body = page.partition(f'<table id="{name}">')[2].partition("</table>")[0]
    rows = [
        re.findall(r'<td class="number" data-value="([^"]*)"', row) for row in re.findall(r"<tr.*?</tr>", body, re.S)
    ]
    return rows[1:-1], rows[-1]


async def test_what_was_spent_and_its_sums(clock: Clock, opened: Any) -> None:
    async with opened(gpu_prices=PRICES, energy_kwh_cost=0.3) as site:
        await work(site, clock)
        page = await look(site)
    shown = tiles(page)
    assert shown["A video"] == shown["Cost"]
    assert "on demand" in page
    for name in ("tenants", "models", "days", "outcomes"):
        rows, together = table(page, name)
        for number, total in enumerate(together[:6]):
            assert sum(float(row[number]) for row in rows) == pytest.approx(float(total)), name
    (gpu,), all_gpus = table(page, "gpus")
    assert gpu[1:] == all_gpus
    assert float(gpu[4]) == pytest.approx(float(gpu[5]) + float(gpu[6]))
    assert '<rect class="denoising"' in page
    assert "No price is known" not in page


async def test_without_a_price_it_says_which_setting_to_set(clock: Clock, site: Site) -> None:
    await work(site, clock)
    page = await look(site)
    assert "REELQ_GPU_HOUR_COST" in page
    assert "REELQ_GPU_PRICES" in page
    assert {"GPU time", "A video", "Failed attempts", "Idle"} <= tiles(page).keys()
    assert "Cost" not in tiles(page)
    _, together = table(page, "tenants")
    assert together[4] == ""


async def test_a_gpu_without_a_price_is_named(clock: Clock, opened: Any) -> None:
    async with opened(gpu_prices='{"another": {"hour": 1.0}}') as site:
        await work(site, clock)
        page = await look(site)
    assert "1 GPU has no price: GPU-0" in page


async def test_a_time_in_which_no_gpu_was_there(site: Site) -> None:
    page = await look(site, window="custom", since="2001-01-01", until="2001-01-31")
    assert "No GPU was online in this time" in page
    assert "<table" not in page


async def test_what_is_no_period_is_told_with_the_usual_one(site: Site) -> None:
    page = await look(site, window="<script>alert(1)</script>")
    assert "There is no period" in page
    assert "<script>alert" not in page
    assert 'href="/costs?window=30d" aria-current="true"' in page
    assert "must be given" in await look(site, window="custom", since="\x00", until="9" * 5000)


async def test_only_the_operator_sees_it(site: Site) -> None:
    _, secret = site.scheduler.keys.create("phone", tenant="acme", scopes=[Scope.READ, Scope.SUBMIT], actor="test")
    for path in ("/costs", "/advice"):
        page = await site.client.get(path, headers=BROWSER | {"Authorization": f"Bearer {secret}"})
        assert page.status_code == 403
        assert "scope admin" in page.text


@pytest.mark.parametrize("path", ["/costs", "/advice"])
async def test_a_report_that_may_take_long_comes_after_its_page(site: Site, path: str) -> None:
    wanted = BROWSER | {"Sec-Fetch-Dest": "document"}
    page = (await site.client.get(path, headers=wanted)).text
    assert 'aria-busy="true"' in page
    assert 'data-refresh="0.05"' in page
    body = (await site.client.get(path, headers=BROWSER | {"Sec-Fetch-Dest": "empty"})).text
    assert 'aria-busy="true"' not in body
    again = (await site.client.get(path, headers=wanted)).text
    assert 'aria-busy="true"' not in again
