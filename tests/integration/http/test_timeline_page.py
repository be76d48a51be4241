"""The page of what ran when."""

import re
from urllib.parse import quote

import httpx
import pytest

from tests.support.fleet import register_gpu
from tests.support.http import Site


async def look(site: Site, query: str = "") -> httpx.Response:
    return await site.client.get(f"/timeline{query}", headers={"Accept": "text/html"})


async def text(site: Site, query: str = "") -> str:
    answer = await look(site, query)
    assert answer.status_code == 200, answer.text
    return answer.text.replace("&amp;", "&")


def link(page: str, words: str) -> str:
    found = re.search(rf'href="([^"]+)"[^>]*>{words}', page)
    assert found, words
    return found[1].removeprefix("/timeline")


async def test_each_attempt_is_a_bar_that_leads_to_its_job(site: Site) -> None:
    done = await site.succeeded()
    running = await site.submit()
    site.gpu.must_claim()
    page = await text(site)
    for job_id, words in ((done, "succeeded after"), (running["id"], "has run for")):
        assert f'<a href="/jobs/{job_id}"' in page
        assert re.search(rf"<title>{job_id}, attempt 1: \S+, fp16, \S+; {words} ", page)
    assert 'aria-label="GPU-0: 2 attempts: 1 succeeded, 1 running; ' in page
    assert 'data-refresh="3.0"' in page


async def test_an_idle_fleet_has_rows_without_bars(site: Site) -> None:
    register_gpu(site.scheduler, "GPU-1")
    page = await text(site)
    assert page.count('class="track"') == 2
    assert "idle 100% of the time" in page
    assert "/jobs/" not in page.partition("<main")[2]


async def test_without_a_gpu_there_is_nothing_to_see(opened: object) -> None:
    async with opened(with_gpu=False) as site:  # type: ignore[operator]
        assert "No GPU" in await text(site)


async def test_earlier_and_later_lead_back_to_now(site: Site) -> None:
    job_id = await site.succeeded()
    page = await text(site, "?span=10m")
    assert "Later" not in page
    before = await text(site, link(page, "← Earlier"))
    assert job_id not in before
    assert 'data-refresh="0"' in before, "the past does not change"
    further = await text(site, link(before, "← Earlier"))
    assert link(before, "Now") == "?span=10m"
    assert "until" in link(further, "Later")
    assert job_id in await text(site, link(before, "Later"))


async def test_one_gpu_alone(site: Site) -> None:
    register_gpu(site.scheduler, "GPU-1")
    page = await text(site)
    alone = await text(site, link(page, "GPU-1"))
    assert alone.count('class="track"') == 1
    assert '<a href="/gpus/GPU-1">GPU-1</a>' in alone
    assert link(alone, "All GPUs") == "?span=1h"
    assert "gpu=GPU-1" in link(alone, "6 hours")


async def test_a_span_in_the_past(site: Site) -> None:
    page = await text(site, f"?span=24h&until={quote('2020-01-02T00:00:00+01:00')}")
    assert 'datetime="2020-01-01T23:00:00.000Z"' in page
    assert "0 attempts on 1 GPU" in page
    assert "not seen" in page


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("?span=2h", 422, "span must be one of 10m, 1h"),
        ("?until=yesterday", 422, "until must be an RFC 3339 time"),
        ("?until=0001-01-01T00:00:00Z", 422, "must be before until"),
        ("?until=<script>", 422, "until must be"),
        ("?gpu=GPU-9", 404, "no GPU GPU-9"),
        ("?gpu=%00", 404, "no GPU"),
        ("?gpu=", 404, "no GPU"),
    ],
)
async def test_a_bad_query_is_a_page_that_says_so(site: Site, query: str, status: int, words: str) -> None:
    answer = await look(site, query)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert words in answer.text
    assert "<script>" not in answer.text


async def test_the_far_future_is_now(site: Site) -> None:
    job_id = await site.succeeded()
    assert job_id in await text(site, "?until=9999-12-31T23:59:59Z")


async def test_what_is_too_short_to_be_a_bar_leads_closer_and_at_last_to_the_jobs(site: Site) -> None:
    for _ in range(3):
        await site.succeeded()
    page = await text(site, "?span=7d")
    assert "<title>3 attempts: 3 succeeded</title>" in page
    block = re.search(r'<a href="/timeline(\?span=24h[^"]+gpu=GPU-0)" data-key', page)
    assert block
    assert "3 attempts on 1 GPU" in await text(site, block[1])
    assert '<a href="/jobs?gpu=GPU-0" data-key' in await text(site, "?span=10m")


async def test_too_many_to_choose_from_are_drawn_all_the_same(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.dashboard.gantt._MOST_MARKS", 0)
    await site.succeeded()
    page = await text(site)
    assert '<path class="succeeded" d="M' in page
    assert "These are too many to choose from one by one" in page
    assert 'id="told"' not in page
