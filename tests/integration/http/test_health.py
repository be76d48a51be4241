from typing import Any

import pytest

from scheduler.errors import StoreUnreachable
from tests.support.fleet import register_gpu
from tests.support.http import Site, check_problem


async def test_a_worker_makes_it_ready(site: Site) -> None:
    answer = await site.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "workers": 1})


async def test_without_a_ready_worker_it_lives_but_is_not_ready(opened: Any) -> None:
    async with opened(with_gpu=False) as site:
        assert (await site.client.get("/healthz")).json() == {"status": "ok"}
        check_problem(await site.client.get("/readyz"), 503, "not_ready", "no worker is ready", "0 GPUs")
        register_gpu(site.scheduler, workers=0).add_worker(ready=False)
        check_problem(await site.client.get("/readyz"), 503, "not_ready", "1 workers are loading")


async def test_without_a_database_it_lives_but_is_not_ready(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise StoreUnreachable("the database cannot be used: it is away")

    monkeypatch.setattr(site.scheduler.fleet, "gpus", broken)
    assert (await site.client.get("/healthz")).status_code == 200
    check_problem(await site.client.get("/readyz"), 503, "not_ready", "it is away")


async def test_the_root_says_what_this_is_and_where_to_go_on(site: Site) -> None:
    body = (await site.client.get("/")).json()
    assert body["name"] == "reelq"
    for link in body["links"].values():
        assert (await site.client.get(link)).status_code in (200, 405)  # 405: it is there, for POST
