"""The page Advice over HTTP."""

import re
import time
from html import unescape
from typing import Any

import pytest

from scheduler.records import GpuSample
from tests.support.databases import Clock
from tests.support.databases import clock as stopped_clock
from tests.support.http import Site

__all__ = ["stopped_clock"]  # a fixture

BROWSER = {"Accept": "text/html"}
GIB = 2**30
CARD = '{"A <b>card</b>": {"memory_bytes": 51539607552, "relative_speed": 2, "price": 700, "hour": 1.0}}'


@pytest.fixture
def clock(stopped_clock: Clock) -> Clock:
    """Show the time of today, at which the page's windows end."""
    stopped_clock.seconds = float(int(time.time())) - 3600
    return stopped_clock


async def look(site: Site, **query: str) -> str:
    page = await site.client.get("/advice", params=query, headers=BROWSER)
    assert page.status_code == 200, page.text
    return page.text


def sentence(page: str) -> str:
    return unescape(page.partition('id="sentence">')[2].partition("<")[0]).replace("\N{NO-BREAK SPACE}", " ")


async def test_nothing_was_recorded_yet(opened: Any) -> None:
    async with opened(with_gpu=False) as site:
        page = await look(site)
    assert sentence(page).startswith("There is nothing to advise yet")
    assert "No GPU has been sampled" in page
    assert "0 attempts have ended; from 200 on it is sure." in page
    assert "say above what growth you expect" in page
    assert "<table" not in page


async def test_a_full_gpu_and_high_growth(clock: Clock, opened: Any) -> None:
    async with opened(gpu_prices='{"GPU-0": {"hour": 1.0, "terms": "on_demand"}}', cards=CARD) as site:
        await site.submit()
        lease = site.gpu.must_claim()
        for _ in range(12):
            clock.advance(5)
            look_at = GpuSample(used_bytes=int(22.1 * GIB), free_bytes=0, utilization_percent=95.0)
            site.scheduler.fleet.sample("GPU-0", look_at)
        site.finish(lease)
        page = await look(site, growth="high", card_price="700")
        low = await look(site, growth="0.05")
        other = await look(site, growth="0.3")
        told = (await site.client.get("/v1/admin/advice", params={"growth": "high", "card_price": 700})).json()
    assert sentence(page) == told["advice"]
    assert "Advance capacity" in sentence(page)
    (point,) = re.findall(r'<circle class="heaviest" cx="([\d.]+)%" cy="([\d.]+)%"', page)
    assert point == ("91.67", "25.0")
    assert re.search(r'class="quadrant here" x="50%" y="0%"', page)
    assert re.search(r'class="quadrant here" x="50%" y="50%"', low)
    assert "Bound by computing" in page
    assert re.findall(r'<svg class="load high" role="img" aria-label="([^"]*)"', page) == [
        "Peak memory 92%",
        "Mean utilisation 95%",
    ]
    assert page.count("As given above.") == 1
    assert "A &lt;b&gt;card&lt;/b&gt;" in page
    assert re.search(r"[\d.]+ months</td>", page)
    assert '<option value="high" selected>' in page
    assert '<option value="0.3" selected>+30% a month<' in other
    assert "as given above" in other


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"window": "<b>"}, "There is no window"),
        ({"growth": "<script>"}, "growth must be high, low"),
        ({"growth": "nan"}, "growth must be high, low"),
        ({"card_price": "-1"}, "must be a number from 0 on"),
        ({"card_price": "inf"}, "must be a number from 0 on"),
        ({"card_price": "\x00"}, "must be a number from 0 on"),
    ],
)
async def test_what_is_wrong_is_told_and_the_rest_is_shown(site: Site, query: dict[str, str], words: str) -> None:
    page = await look(site, **query)
    assert words in unescape(page)
    assert "<script>" not in page
    assert sentence(page)
    assert '<option value="measured" selected>' in page
