import asyncio
import re
import time
from datetime import datetime
from typing import Any

import httpx
import pytest

from scheduler.errors import StoreUnreachable
from scheduler.records import JobError
from scheduler.wakeup import Wakeup
from tests.support.fleet import HALF_WAY
from tests.support.http import SHA256, URL, VIDEO, Site, check_problem, http_scope, until

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_a_running_job_shows_its_stage_and_progress(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["stage"], job["gpu"], job["attempts"]) == ("running", "denoising", "GPU-0", 1)
    assert job["progress"] == {"fraction": 0.5, "step": 25, "steps": 50}
    assert job["queue"] is None
    assert RFC3339.fullmatch(job["created_at"])
    assert RFC3339.fullmatch(job["started_at"])
    assert job["finished_at"] is None


async def test_a_finished_job_shows_its_video_and_what_it_took(site: Site) -> None:
    job_id = await site.succeeded()
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["stage"], job["queue"], job["error"]) == ("succeeded", None, None, None)
    assert job["progress"] == {"fraction": 1.0, "step": 50, "steps": 50}
    assert job["video"] == {
        "url": f"{URL}/v1/jobs/{job_id}/video",
        "thumbnail_url": f"{URL}/v1/jobs/{job_id}/thumbnail",
        "preview_url": f"{URL}/v1/jobs/{job_id}/preview",
        "bytes": len(VIDEO),
        "sha256": SHA256,
        "num_frames": 16,
        "fps": 8,
        "duration_seconds": 2.0,
        "expires_at": None,
        "expired": False,
    }
    stored = site.stored(job_id)
    assert stored.started_at is not None
    assert job["measured"] == {
        "vram_peak_bytes": 7 * 2**30,
        "working_peak_bytes": 2**30,
        "run_seconds": 12.5,
        "queue_seconds": stored.started_at - stored.created_at,
        "stage_seconds": {"denoising": 10.0, "decoding": 2.5},
        "steps": 50,
        "step_seconds": 0.2,
        "sharing": 2,
        "energy_joules": 3000.0,
        "cost": None,
    }


async def test_a_failed_job_says_why(site: Site) -> None:
    job_id = (await site.submit())["id"]
    site.scheduler.leases.fail(site.gpu.must_claim(), JobError("out_of_memory", "24 GiB are not enough"))
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["video"], job["progress"]["fraction"]) == ("failed", None, 0.0)
    assert job["error"] == {"code": "out_of_memory", "message": "24 GiB are not enough"}


async def test_a_job_that_went_back_to_the_queue_has_no_gpu(site: Site) -> None:
    job_id = (await site.submit())["id"]
    site.scheduler.leases.retry(site.gpu.must_claim(), JobError("worker_lost", "gone"))
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["gpu"], job["measured"], job["attempts"]) == ("queued", None, None, 1)
    assert "not before" in job["queue"]["wait_reason"]


@pytest.mark.parametrize(
    "job_id", ["job_unknown", "job_" + "0" * 26, "%00", "..%2f..%2fetc", "x" * 3000, "%F0%9F%A6%8A"]
)
async def test_ids_that_name_nothing_are_404(site: Site, job_id: str) -> None:
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}?wait=1", f"/v1/jobs/{job_id}/video"):
        check_problem(await site.client.get(path), 404, "not_found")
    check_problem(await site.client.post(f"/v1/jobs/{job_id}/cancel"), 404, "not_found")
    check_problem(await site.client.delete(f"/v1/jobs/{job_id}"), 404, "not_found")


async def test_an_unchanged_job_is_304(site: Site) -> None:
    path = f"/v1/jobs/{(await site.submit())['id']}"
    etag = (await site.client.get(path)).headers["etag"]
    for header in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        answer = await site.client.get(path, headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag


async def test_the_etag_changes_with_the_job(site: Site) -> None:
    path = f"/v1/jobs/{(await site.submit())['id']}"
    tags = [(await site.client.get(path)).headers["etag"]]
    lease = site.gpu.must_claim()
    tags.append((await site.client.get(path)).headers["etag"])
    site.scheduler.leases.report(lease, HALF_WAY)
    tags.append((await site.client.get(path)).headers["etag"])
    site.finish(lease)
    tags.append((await site.client.get(path)).headers["etag"])
    assert len(set(tags)) == 4
    answer = await site.client.get(path, headers={"If-None-Match": ", ".join(tags[:3])})
    assert answer.status_code == 200


async def test_a_queued_job_says_why_it_waits_and_when_it_should_run(site: Site) -> None:
    await site.submit()
    running = site.gpu.must_claim()
    site.scheduler.leases.report(running, HALF_WAY)
    job = await site.submit()
    queue = job["queue"]
    assert queue["wait"] == {
        "code": "busy",
        "details": {"running": 1, "ahead": 0, "gpus": ["GPU-0"]},
        "clears_when": "enough of the jobs that run and are ahead have ended",
    }
    assert (queue["position"], queue["position_exact"]) == (1, True)
    start, finish = (
        [datetime.fromisoformat(queue[name][key]) for key in ("p50", "p90")]
        for name in ("expected_start", "expected_finish")
    )
    seconds = job["estimate"]["seconds"]
    assert 0.4 * seconds < queue["eta_seconds"] <= 0.5 * seconds
    assert (start[1] - start[0]).total_seconds() == pytest.approx(queue["eta_seconds"], rel=0.01)
    assert (finish[0] - start[0]).total_seconds() == pytest.approx(seconds)
    assert start[1] < finish[1]


async def test_while_the_queue_is_paused_nobody_can_tell_when(site: Site) -> None:
    path = f"/v1/jobs/{(await site.submit())['id']}"
    before = await site.client.get(path)
    site.scheduler.control.pause("moving racks", "alice")
    after = await site.client.get(path, headers={"If-None-Match": before.headers["etag"]})
    queue = after.json()["queue"]
    assert queue["wait"]["code"] == "queue_paused"
    assert queue["wait"]["details"].keys() == {"paused_at", "reason", "actor"}
    assert queue["wait"]["details"]["paused_at"].endswith("Z")
    assert (queue["eta_seconds"], queue["expected_start"], queue["expected_finish"]) == (None, None, None)


async def test_the_etag_changes_with_the_place_in_the_queue(site: Site) -> None:
    first, second = await site.submit(), await site.submit()
    path = f"/v1/jobs/{second['id']}"
    before = await site.client.get(path)
    assert before.json()["queue"]["position"] == 2
    await site.client.post(f"/v1/jobs/{first['id']}/cancel")
    after = await site.client.get(path, headers={"If-None-Match": before.headers["etag"]})
    assert after.json()["queue"]["position"] == 1


async def waiting(site: Site, job_id: str, **headers: str) -> asyncio.Task[httpx.Response]:
    """Begin a long poll of a minute, and return when it waits."""
    task = asyncio.create_task(site.client.get(f"/v1/jobs/{job_id}?wait=60", headers=headers))
    await until(lambda: site.hub.waiting and all(w.version for ws in site.hub._watches.values() for w in ws))
    return task


async def test_a_long_poll_answers_at_progress_and_at_the_end(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as site:
        site.hub._poll_seconds = 3600  # wake-ups alone, after the poll that is under way
        job_id = (await site.submit())["id"]
        task = await waiting(site, job_id)
        lease = site.gpu.must_claim()
        assert (await asyncio.wait_for(task, 5)).json()["status"] == "running"
        etag = (await site.client.get(f"/v1/jobs/{job_id}")).headers["etag"]
        task = await waiting(site, job_id, **{"If-None-Match": etag})
        site.scheduler.leases.report(lease, HALF_WAY)
        assert (await asyncio.wait_for(task, 5)).json()["progress"]["step"] == 25
        task = await waiting(site, job_id)
        site.finish(lease)
        assert (await asyncio.wait_for(task, 5)).json()["status"] == "succeeded"
        assert site.hub.waiting == 0


async def test_a_long_poll_needs_no_wake_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.hub._poll_seconds = 0.05
    job_id = (await site.submit())["id"]
    with monkeypatch.context() as patch:
        patch.setattr(Wakeup, "notify", lambda self, topic: None)
        task = await waiting(site, job_id)
        site.gpu.must_claim()
        assert (await asyncio.wait_for(task, 5)).json()["status"] == "running"


async def test_a_long_poll_survives_a_store_that_is_away_for_a_while(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.hub._poll_seconds = 0.05
    job_id = (await site.submit())["id"]
    failed = 0
    real = site.hub._versions

    def flaky(job_ids: Any) -> Any:
        nonlocal failed
        if failed < 2:
            failed += 1
            raise StoreUnreachable("gone for a moment")
        return real(job_ids)

    with monkeypatch.context() as patch:
        patch.setattr(Wakeup, "notify", lambda self, topic: None)
        patch.setattr(site.hub, "_versions", flaky)
        task = await waiting(site, job_id)
        site.gpu.must_claim()
        assert (await asyncio.wait_for(task, 5)).json()["status"] == "running"
    assert failed == 2


async def test_a_wake_up_without_a_change_answers_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = (await site.submit())["id"]
    task = await waiting(site, job_id)
    asked = 0
    real = site.scheduler.queue.versions

    def counted(job_ids: Any) -> Any:
        nonlocal asked
        asked += 1
        return real(job_ids)

    monkeypatch.setattr(site.scheduler.queue, "versions", counted)
    for round_ in range(1, 4):
        site.scheduler.wakeup.notify(f"job:{job_id}")
        await until(lambda expected=round_: asked >= expected)
    assert not task.done()
    await site.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (await asyncio.wait_for(task, 5)).json()["status"] == "cancelled"


async def test_a_wait_ends_with_its_time(site: Site) -> None:
    path = f"/v1/jobs/{(await site.submit())['id']}?wait=0.1"
    began = time.monotonic()
    answer = await site.client.get(path)
    assert answer.json()["status"] == "queued"
    assert time.monotonic() - began >= 0.1
    same = await site.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert same.status_code == 304


async def test_an_ended_job_and_an_older_tag_are_not_waited_for(site: Site) -> None:
    queued = (await site.submit())["id"]
    answer = await asyncio.wait_for(
        site.client.get(f"/v1/jobs/{queued}?wait=60", headers={"If-None-Match": '"older"'}), 5
    )
    assert answer.status_code == 200
    await site.client.post(f"/v1/jobs/{queued}/cancel")
    ended = await asyncio.wait_for(site.client.get(f"/v1/jobs/{queued}?wait=60"), 5)
    assert ended.json()["status"] == "cancelled"
    same = await asyncio.wait_for(
        site.client.get(f"/v1/jobs/{queued}?wait=60", headers={"If-None-Match": ended.headers["etag"]}), 5
    )
    assert same.status_code == 304


async def test_many_waiters_cost_no_threads_and_all_hear(site: Site) -> None:
    job_id = (await site.submit())["id"]
    tasks = [asyncio.create_task(site.client.get(f"/v1/jobs/{job_id}?wait=60")) for _ in range(100)]
    await until(lambda: site.hub.waiting == 100 and all(w.version for w in site.hub._watches[job_id]))
    site.gpu.must_claim()
    answers = await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert {answer.json()["status"] for answer in answers} == {"running"}


async def test_a_client_that_leaves_is_forgotten(site: Site) -> None:
    job_id = (await site.submit())["id"]
    sent: list[Any] = []
    gone = asyncio.Event()
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        for message in received:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope("GET", f"/v1/jobs/{job_id}", b"wait=60")
    task = asyncio.create_task(site.app(scope, receive, send))
    await until(lambda: site.hub.waiting == 1)
    gone.set()
    await asyncio.wait_for(task, 5)
    assert site.hub.waiting == 0


async def test_stopping_answers_long_polls_at_once(site: Site) -> None:
    job_id = (await site.submit())["id"]
    task = await waiting(site, job_id)
    site.hub.release()
    assert (await asyncio.wait_for(task, 5)).json()["status"] == "queued"
    again = await asyncio.wait_for(site.client.get(f"/v1/jobs/{job_id}?wait=60"), 5)
    assert again.status_code == 200


@pytest.mark.parametrize("wait", ["-1", "60.1", "nan", "inf", "soon"])
async def test_waits_outside_the_limit_are_refused(site: Site, wait: str) -> None:
    job_id = (await site.submit())["id"]
    check_problem(await site.client.get(f"/v1/jobs/{job_id}?wait={wait}"), 422, "invalid_parameter", "wait")
