"""The pages of the GPUs: all of them, and one over time."""

import re

import httpx
import pytest

from scheduler.keys import Scope
from scheduler.records import GpuSample
from scheduler.states import DrainMode, OnDeadline
from tests.support.fleet import GIB, HALF_WAY, register_gpu
from tests.support.http import Site

BROWSER = {"Accept": "text/html"}
LOOK = GpuSample(9 * GIB, 15 * GIB, 97.0, 66.0, foreign_bytes=GIB, power_watts=312.5)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the front end asks about callers be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def look(site: Site, path: str = "/gpus") -> httpx.Response:
    return await site.client.get(path, headers=BROWSER)


async def text(site: Site, path: str = "/gpus") -> str:
    answer = await look(site, path)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_gpu_shows_its_memory_jobs_workers_and_past(site: Site) -> None:
    job = await site.submit()
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    site.scheduler.fleet.sample("GPU-0", LOOK)
    page = await text(site)
    for words in ("9.0 GiB of 24.0 GiB", "97 %", "66 °C", "312 W", "denoising 25/50", "4711", job["id"][-6:]):
        assert words in page, words
    assert re.search(r'aria-label="Last hour of GPU-0: memory now \S+ GiB', page)
    assert 'data-drain="GPU-0"' in page
    assert 'data-resume="GPU-0"' not in page


async def test_many_are_a_list_unless_cards_are_wanted(site: Site) -> None:
    assert 'id="cards"' in await text(site)
    assert 'class="fleet"' in await text(site, "/gpus?as=list")
    for number in range(1, 13):
        register_gpu(site.scheduler, f"GPU-{number}", host="<b>host</b>")
    page = await text(site)
    assert 'class="fleet"' in page
    assert page.count('name="gpu"') == 13
    assert "13 GPUs" in page
    assert "<b>host" not in page
    assert 'id="cards"' in await text(site, "/gpus?as=cards")


async def test_an_unknown_way_to_show_them_is_refused(site: Site) -> None:
    answer = await look(site, "/gpus?as=tree")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "text/html; charset=utf-8")


async def test_without_a_gpu_it_says_what_to_do(opened: object) -> None:
    async with opened(with_gpu=False) as site:  # type: ignore[operator]
        page = await text(site)
    assert "No GPU yet" in page
    assert "reelq-worker" in page


async def test_a_drain_is_told_and_can_be_ended(site: Site) -> None:
    await site.submit()
    site.gpu.must_claim()
    site.scheduler.fleet.drain(
        "GPU-0",
        "<script>fans</script>",
        "ops",
        mode=DrainMode.FINISH,
        deadline_seconds=600,
        on_deadline=OnDeadline.KILL,
        resume_after_seconds=7200,
    )
    for path in ("/gpus?as=cards", "/gpus/GPU-0"):
        page = await text(site, path)
        assert "&lt;script&gt;fans" in page
        assert "<script>fans" not in page
        assert "Running jobs finish first; at <time" in page
        assert "their process is killed; it takes jobs again at <time" in page
        assert 'data-resume="GPU-0"' in page
        assert "Change drain" in page
    assert "1 draining" in await text(site)


async def test_a_fault_says_why_and_what_to_do(site: Site) -> None:
    site.scheduler.fleet.fault("GPU-0", "Xid 79: it has fallen off the bus")
    for path in ("/gpus", "/gpus/GPU-0"):
        page = await text(site, path)
        assert "Xid 79" in page
        assert "takes no jobs until it is resumed" in page
        assert 'data-resume="GPU-0"' in page


async def test_memory_that_nobody_can_read_is_told(site: Site) -> None:
    site.scheduler.fleet.sample("GPU-0", GpuSample(None, None, problem="the GPU is lost"))
    for path in ("/gpus?as=cards", "/gpus?as=list", "/gpus/GPU-0"):
        assert "the GPU is lost" in await text(site, path)


async def test_the_queues_switch_and_what_waits(site: Site) -> None:
    page = await text(site)
    assert 'data-opens="pause"' in page
    await site.submit()
    site.scheduler.control.pause("<i>holiday</i>", "ops")
    page = await text(site)
    assert "&lt;i&gt;holiday" in page
    assert 'data-api="POST /v1/admin/queue/resume"' in page
    assert "What waits, by the memory that it needs" in page


async def test_one_gpu_over_time_and_what_happened(site: Site) -> None:
    site.scheduler.fleet.sample("GPU-0", LOOK)
    site.scheduler.fleet.drain("GPU-0", "new fans", "ops")
    site.scheduler.fleet.resume("GPU-0", "somebody else")
    page = await text(site, "/gpus/GPU-0?window=6h")
    for title in ("Memory", "Utilisation", "Power", "Temperature"):
        assert f'aria-label="{title}, last 6 hours: ' in page
    assert re.search(r'aria-current="true">6 hours', page)
    told = page.partition("What happened")[2]
    assert told.index("gpu active") < told.index("gpu draining") < told.index("gpu registered")
    assert "somebody else" in told
    assert "24.0 GiB" in told


async def test_a_gpu_that_has_left_keeps_its_past(site: Site) -> None:
    with site.scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM workers")
        conn.exec_driver_sql("DELETE FROM gpus")
    page = await text(site, "/gpus/GPU-0")
    assert "no longer registered" in page
    assert 'aria-label="Memory, last 1 hour: ' in page
    assert 'data-drain="GPU-0"' not in page


@pytest.mark.parametrize("gpu", ["GPU-9", "a%20b", "%00", "%C3%BC", "x" * 300, "%3Cscript%3E", "a/b"])
async def test_an_unknown_gpu_is_a_page_that_says_so(site: Site, gpu: str) -> None:
    answer = await look(site, f"/gpus/{gpu}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "no GPU" in answer.text
    assert "<script>" not in answer.text


async def test_an_unknown_window_is_a_page_that_names_the_others(site: Site) -> None:
    answer = await look(site, "/gpus/GPU-0?window=<b>")
    assert answer.status_code == 422
    assert "must be one of 1h, 6h, 24h, 7d, 30d" in answer.text
    assert "<b>" not in answer.text


async def test_only_an_operator_sees_them(site: Site) -> None:
    _, secret = site.scheduler.keys.create("k", tenant="acme", scopes=[Scope.READ, Scope.SUBMIT], actor="test")
    site.client.headers["Authorization"] = f"Bearer {secret}"
    for path in ("/gpus", "/gpus/GPU-0", "/timeline"):
        answer = await look(site, path)
        assert (answer.status_code, "GPU-0" in answer.text) == (403, False)
