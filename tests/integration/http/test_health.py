from typing import Any

import pytest
from structlog.testing import capture_logs

from scheduler.errors import StoreUnreachable
from tests.support.databases import Clock, clock
from tests.support.fleet import register_gpu
from tests.support.http import Site, check_problem

__all__ = ["clock"]  # a fixture


async def test_a_worker_makes_it_ready(site: Site) -> None:
    answer = await site.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "workers": 1, "drained_gpus": 0})


async def test_without_a_ready_worker_it_lives_but_is_not_ready(opened: Any) -> None:
    async with opened(with_gpu=False) as site:
        assert (await site.client.get("/healthz")).json() == {"status": "ok"}
        check_problem(await site.client.get("/readyz"), 503, "not_ready", "no worker is ready: no GPU has registered")
        register_gpu(site.scheduler, workers=0).add_worker(ready=False)
        check_problem(await site.client.get("/readyz"), 503, "not_ready", "of 1 GPUs 1 is loading a model")


async def test_a_drained_service_takes_jobs(site: Site) -> None:
    site.scheduler.fleet.drain("GPU-0", "new fans", "me")
    site.scheduler.fleet.worker_gone(site.gpu.workers[0])
    answer = await site.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "workers": 0, "drained_gpus": 1})
    await site.submit()


async def test_a_paused_queue_takes_jobs_without_workers(site: Site) -> None:
    site.scheduler.fleet.worker_gone(site.gpu.workers[0])
    check_problem(await site.client.get("/readyz"), 503, "not_ready", "1 is loading a model")
    site.scheduler.control.pause("maintenance", "me")
    assert (await site.client.get("/readyz")).status_code == 200


async def test_what_is_faulted_or_offline_is_not_ready(clock: Clock, site: Site) -> None:
    site.scheduler.fleet.fault("GPU-0", "three crashes")
    check_problem(await site.client.get("/readyz"), 503, "not_ready", "of 1 GPUs 1 is faulted")
    site.scheduler.fleet.resume("GPU-0", "me")
    clock.advance(3600)
    check_problem(await site.client.get("/readyz"), 503, "not_ready", "of 1 GPUs 1 is offline")


async def test_without_a_database_it_lives_but_is_not_ready(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise StoreUnreachable("the database cannot be used: connection to 10.0.0.7 refused")

    monkeypatch.setattr(site.scheduler.fleet, "gpus", broken)
    assert (await site.client.get("/healthz")).status_code == 200
    with capture_logs() as logged:
        answer = await site.client.get("/readyz")
    check_problem(answer, 503, "not_ready", "the database or the blob store cannot be used")
    assert "10.0.0.7" not in answer.text
    assert any("10.0.0.7" in str(one.get("problem")) for one in logged)


async def test_the_root_says_what_this_is_and_where_to_go_on(site: Site) -> None:
    body = (await site.client.get("/")).json()
    assert body["name"] == "reelq"
    for link in body["links"].values():
        assert (await site.client.get(link)).status_code in (200, 405)  # 405: it is there, for POST
