"""A job's own page."""

from dataclasses import replace

import pytest

from scheduler.ids import new_id
from scheduler.keys import Scope
from scheduler.records import JobError
from scheduler.store import transitions
from tests.support.fleet import HALF_WAY
from tests.support.http import MEASURED, Site

BROWSER = {"Accept": "text/html"}
NASTY = "<script>alert(1)</script> & <b>"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the front end asks about callers be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def look(site: Site, job_id: str, status: int = 200) -> str:
    answer = await site.client.get(f"/jobs/{job_id}", headers=BROWSER)
    assert answer.status_code == status, answer.text
    return answer.text


def sign_in(site: Site, *scopes: Scope, tenant: str = "default") -> None:
    secret = site.scheduler.keys.create("k", tenant=tenant, scopes=scopes, actor="test")[1]
    site.client.headers["Authorization"] = f"Bearer {secret}"


async def test_a_queued_job_says_why_it_waits(site: Site) -> None:
    site.scheduler.control.pause("moving house", "me")
    job = await site.submit(metadata='{"shot": "12b"}', negative_prompt="blur", priority="2")
    page = await look(site, job["id"])
    for words in (
        "Why it waits",
        "the queue is paused (moving house)",
        "the queue is resumed",
        "next in line",
        "Nobody can tell",
        "12b",
        "blur",
        "None yet",
        "Submitted, with plan",
        f'src="/v1/jobs/{job["id"]}/image"',
        f'data-api="POST /v1/jobs/{job["id"]}/cancel"',
        'data-priority="2.0"',
        f'href="/submit?from={job["id"]}"',
    ):
        assert words in page
    assert "<video" not in page
    assert "/retry" not in page
    assert 'data-refresh="1.0"' in page


async def test_when_it_should_start_is_told(site: Site) -> None:
    first = (await site.submit())["id"]
    site.gpu.must_claim()
    page = await look(site, first)
    assert "Loading" in page
    second = (await site.submit())["id"]
    page = await look(site, second)
    assert "in about" in page
    assert "in 9 of 10 cases within" in page


async def test_a_running_job_shows_how_far_it_is(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    page = await look(site, job_id)
    for words in (
        "Progress",
        "50%",
        "Denoising 25/50",
        "Attempt 1 began on GPU GPU-0",
        lease.worker_id,
        "Stop for now",
    ):
        assert words in page
    assert 'aria-valuenow="50"' in page

    site.scheduler.queue.cancel(job_id)
    page = await look(site, job_id)
    assert "It was asked to stop" in page
    assert "cancelling" in page
    assert "/cancel" not in page


async def test_a_video_is_played_and_measured(site: Site) -> None:
    job_id = await site.succeeded()
    page = await look(site, job_id)
    for words in (
        f'src="/v1/jobs/{job_id}/video"',
        f'poster="/v1/jobs/{job_id}/thumbnail"',
        f'download="{job_id}.mp4"',
        "Predicted and measured",
        "7.0 GiB",
        "12 s",
        "Denoising 10 s",
        "up to 1 other job:",
        f'data-api="DELETE /v1/jobs/{job_id}"',
        f"--form-string seed={site.stored(job_id).params.seed}",
    ):
        assert words in page, words
    assert "<dt>Cost</dt>" not in page, "nothing is priced"
    assert 'data-refresh="30.0"' in page


async def test_an_expired_video_says_so(site: Site) -> None:
    job_id = (await site.submit(result_ttl_seconds="60"))["id"]
    site.finish(site.gpu.must_claim())
    assert "kept until" in await look(site, job_id)
    with site.scheduler.database.write() as conn:
        transitions.expire_result(conn, job_id, now=0.0)
    page = await look(site, job_id)
    assert "The video has expired" in page
    assert "<video" not in page
    assert "The video was deleted" in page


async def test_a_failed_job_says_what_to_do(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.leases.fail(lease, JobError("out_of_memory", f"ran out {NASTY}"), replace(MEASURED, sharing=1))
    page = await look(site, job_id)
    for words in ("It failed: out of memory", "fewer frames", f'data-api="POST /v1/jobs/{job_id}/retry"', "/jobs/{id}"):
        assert words in page
    assert "<script>alert" not in page
    assert "other job:" not in page

    new = (await site.client.post(f"/v1/jobs/{job_id}/retry")).json()["id"]
    assert f'href="/jobs/{job_id}"' in await look(site, new)


async def test_a_priced_job_has_a_cost(opened: object) -> None:
    async with opened(gpu_hour_cost=3600.0) as site:  # type: ignore[operator]
        assert "6.25" in await look(site, await site.succeeded())


async def test_what_callers_named_is_text_and_nothing_else(site: Site) -> None:
    job = await site.submit(prompt=NASTY, negative_prompt=NASTY, metadata='{"<b>k": "<i>v"}')
    page = await look(site, job["id"])
    for markup in ("<script>alert", "<b>k", "<i>v"):
        assert markup not in page


async def test_webhooks_are_told_of(site: Site) -> None:
    job = await site.submit(webhook_url="https://93.184.215.14/hook?a=1")
    assert "Nothing has been sent yet" in await look(site, job["id"])


async def test_a_job_that_is_not_there_or_anothers_is_not_found(site: Site) -> None:
    other = (await site.submit())["id"]
    sign_in(site, Scope.READ, tenant="acme")
    unknown = new_id("job")
    for job_id in (other, unknown, "job_1", "..%2fetc"):
        page = await look(site, job_id, status=404)
        assert "Not Found" in page
        assert "Why it waits" not in page
    assert (await look(site, other, 404)).count("no job") == (await look(site, unknown, 404)).count("no job") == 1


@pytest.mark.parametrize("ended", [False, True])
async def test_a_reader_sees_no_buttons_and_no_operators_matters(site: Site, ended: bool) -> None:
    sign_in(site, Scope.READ, Scope.SUBMIT, tenant="acme")
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.control.preempt(job_id, "key_9 (ann)", "for the boss")
    if ended:
        site.finish(lease)
    page = await look(site, job_id)
    assert "data-api" in page
    for words in ("key_9", "for the boss", lease.worker_id, "data-priority", "/preempt"):
        assert words not in page
    assert "Asked to stop for now" in page
    assert "Authorization: Bearer $REELQ_API_KEY" in page.replace("&#34;", '"')

    sign_in(site, Scope.READ, tenant="acme")
    page = await look(site, job_id)
    for words in ("data-api=", "/submit?from", 'data-opens="preempt"'):
        assert words not in page.partition("<main")[2]
