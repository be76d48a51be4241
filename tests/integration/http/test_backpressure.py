"""What is refused before its body is read: too many at once, a full queue, a full disk; and bodies that never end."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, BinaryIO

import httpx
import pytest

from app.intake import Intake
from scheduler.errors import TenantQueueFull
from scheduler.keys import Scope
from tests.support.http import Site, check_problem, http_scope, picture, until

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
TAIL = b'\r\n--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na fox\r\n--b--'


class Body:
    """A form that comes as far as its image, and goes on when it is told to; says how much of it was read."""

    def __init__(self) -> None:
        self.read = 0
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in (HEAD, picture()):
            self.read += len(part)
            yield part
        await self.go_on.wait()
        yield TAIL


async def post(site: Site, body: Any, **headers: str) -> httpx.Response:
    return await site.client.post("/v1/jobs", content=body, headers=FORM | headers)


async def test_at_most_so_many_are_taken_in_at_once(opened: Any) -> None:
    async with opened(max_uploads=2) as site:
        bodies = [Body(), Body()]
        waiting = [asyncio.create_task(post(site, body)) for body in bodies]
        await until(lambda: all(body.read > len(HEAD) for body in bodies))
        late = Body()
        answer = await post(site, late)
        body = check_problem(answer, 503, "too_many_uploads", "at most 2")
        assert (answer.headers["retry-after"], body["limit"], late.read) == ("1", 2, 0)
        assert (await site.client.get("/v1/jobs")).status_code == 200  # other requests are none of these
        for one in bodies:
            one.go_on.set()
        assert [(await one).status_code for one in waiting] == [202, 202]
        assert (await site.post()).status_code == 202


async def test_a_place_is_given_back_whatever_becomes_of_it(opened: Any) -> None:
    async with opened(max_uploads=1) as site:
        assert (await site.post(b"no image")).status_code == 415
        assert (await site.post(width="7")).status_code == 422
        body = Body()
        task = asyncio.create_task(post(site, body))
        await until(lambda: body.read > len(HEAD))
        task.cancel()
        await asyncio.wait([task])
        assert (await site.post()).status_code == 202


async def test_a_caller_who_leaves_gives_the_place_back(opened: Any) -> None:
    async with opened(max_uploads=1) as site:
        left = asyncio.Event()
        messages = iter([{"type": "http.request", "body": HEAD + bytes(2**21), "more_body": True}])

        async def receive() -> dict[str, Any]:
            for message in messages:
                return message
            left.set()
            return {"type": "http.disconnect"}

        async def send(_: object) -> None:
            raise AssertionError("nobody is there to answer")

        scope = http_scope("POST", "/v1/jobs")
        scope["headers"] += [(b"content-type", FORM["Content-Type"].encode())]
        await site.app(scope, receive, send)
        assert left.is_set()
        assert site.leftovers() == []
        assert (await site.post()).status_code == 202


async def test_a_full_queue_is_remembered_for_a_second(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("app.intake.time", SimpleNamespace(monotonic=lambda: clock[0]))
    async with opened(max_queued=1) as site:
        job = await site.submit()
        check_problem(await site.post(), 429, "queue_full")
        site.scheduler.queue.cancel(job["id"])
        unread = Body()
        answer = await post(site, unread)
        check_problem(answer, 429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert unread.read == 0
        async with asyncio.timeout(10):
            clock[0] += 1.1
            while (await site.post()).status_code != 202:
                clock[0] += 1.1
                await asyncio.sleep(0.05)  # the queue itself counts again only after a while


async def test_one_tenants_full_queue_is_not_anothers(site: Site) -> None:
    intake = Intake(site.settings, site.scheduler.blobs)
    intake.remember(TenantQueueFull("full", retry_after_seconds=1.0, limit=1), "one")
    with pytest.raises(TenantQueueFull):
        await intake.check("one")
    await intake.check("two")


@pytest.mark.parametrize("disk", ["blobs", "database", "temporary"])
async def test_a_disk_below_the_watermark_is_507_before_the_body(
    opened: Any, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("app.intake.time", SimpleNamespace(monotonic=lambda: clock[0]))
    async with opened(min_free_disk_bytes=1000) as site:
        folder = {
            "blobs": site.settings.data_dir / "blobs", "database": site.settings.data_dir, "temporary": site.temporary,
        }[disk]  # fmt: skip
        free, usage = [999], shutil.disk_usage

        def disk_usage(path: Any) -> Any:
            return usage(path)._replace(free=free[0]) if str(path) == str(folder) else usage(path)

        monkeypatch.setattr(shutil, "disk_usage", disk_usage)
        unread = Body()
        check_problem(await post(site, unread), 507, "storage_full", "999", "1000")
        assert unread.read == 0
        assert site.leftovers() == []
        free[0] = 1000
        check_problem(await post(site, unread), 507, "storage_full")  # for a second it is not looked at again
        clock[0] += 1.1
        assert (await site.post()).status_code == 202


async def test_a_body_that_does_not_end_in_time_is_408(opened: Any) -> None:
    async with opened(upload_seconds=0.2, max_uploads=1) as site:
        answer = await post(site, Body())
        body = check_problem(answer, 408, "upload_timeout", "0.2 seconds")
        assert (body["limit"], answer.headers["connection"]) == (0.2, "close")
        assert site.leftovers() == []
        assert (await site.post()).status_code == 202


async def test_json_and_small_bodies_end_in_time_too(opened: Any) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b'{"prompt": '
        await asyncio.Event().wait()

    async with opened(upload_seconds=0.2) as site:
        for path in ("/v1/jobs", "/v1/estimates"):
            answer = await site.client.post(path, content=never(), headers={"Content-Type": "application/json"})
            check_problem(answer, 408, "upload_timeout")
        assert site.leftovers() == []


async def test_waiting_for_a_job_is_not_an_upload(opened: Any) -> None:
    async with opened(upload_seconds=0.1) as site:
        job = await site.submit()
        answer = await site.client.get(f"/v1/jobs/{job['id']}", params={"wait": "0.5"})
        assert answer.status_code == 200


def key(site: Site, tenant: str) -> dict[str, str]:
    _, secret = site.scheduler.keys.create(tenant, tenant=tenant, scopes=[Scope.SUBMIT, Scope.READ], actor="test")
    return {"Authorization": f"Bearer {secret}"}


async def test_one_tenant_may_hold_half_of_the_places(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)
    async with opened(max_uploads=4) as site:
        greedy, other = key(site, "greedy"), key(site, "other")
        bodies = [Body(), Body()]
        waiting = [asyncio.create_task(post(site, body, **greedy)) for body in bodies]
        await until(lambda: all(body.read > len(HEAD) for body in bodies))
        late = Body()
        body = check_problem(await post(site, late, **greedy), 503, "too_many_uploads", "at most 2", "one tenant")
        assert (body["limit"], late.read) == (2, 0)
        answer = await site.post(headers=other)
        assert answer.status_code == 202
        job = answer.json()["id"]
        check_problem(await site.client.post(f"/v1/jobs/{job}/retry", headers=greedy), 503, "too_many_uploads")
        for one in bodies:
            one.go_on.set()
        assert [(await one).status_code for one in waiting] == [202, 202]
        assert (await site.post(headers=greedy)).status_code == 202


async def test_a_retry_takes_a_place(opened: Any) -> None:
    async with opened(max_uploads=1) as site:
        job = (await site.submit())["id"]
        await site.client.post(f"/v1/jobs/{job}/cancel")
        body = Body()
        waiting = asyncio.create_task(post(site, body))
        await until(lambda: body.read > len(HEAD))
        check_problem(await site.client.post(f"/v1/jobs/{job}/retry"), 503, "too_many_uploads")
        body.go_on.set()
        assert (await waiting).status_code == 202
        assert (await site.client.post(f"/v1/jobs/{job}/retry")).status_code == 202


async def test_images_by_url_leave_places_to_others(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    fetching: list[str] = []

    class SlowClient:
        def __init__(self, *_: object, **__: object) -> None: ...

        def get(self, url: str, *, into: BinaryIO, **_: object) -> None:
            fetching.append(url)
            assert go_on.wait(10)
            into.write(picture())

    monkeypatch.setattr("app.sources.GuardedClient", SlowClient)
    async with opened(max_uploads=4) as site:

        def by_url() -> Any:
            return site.client.post("/v1/jobs", json={"prompt": "a", "image": "https://images.example/a.png"})

        try:
            waiting = [asyncio.create_task(by_url()) for _ in range(2)]
            await until(lambda: len(fetching) == 2)
            check_problem(await by_url(), 503, "too_many_uploads", "at most 2", "by URL")
            assert (await site.post()).status_code == 202
        finally:
            go_on.set()
        assert [(await one).status_code for one in waiting] == [202, 202]
        assert (await by_url()).status_code == 202


async def test_a_body_that_trickles_is_408(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.middleware.PIECE_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        yield HEAD + bytes(70_000)  # a piece as it should be
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    async with opened(max_uploads=1) as site:
        answer = await post(site, trickle())
        body = check_problem(answer, 408, "upload_timeout", "65536 bytes in each 0.2 seconds")
        assert (body["limit"], answer.headers["connection"]) == (65_536, "close")
        assert site.leftovers() == []
        assert (await site.post()).status_code == 202


async def test_a_body_that_keeps_coming_is_taken(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.middleware.PIECE_SECONDS", 0.5)
    monkeypatch.setattr("app.middleware.PIECE_BYTES", 1)

    async def steady() -> AsyncIterator[bytes]:
        for part in (HEAD, picture(), *(TAIL[at : at + 5] for at in range(0, len(TAIL), 5))):
            await asyncio.sleep(0.05)  # together longer than a piece may take
            yield part

    async with opened() as site:
        assert (await post(site, steady())).status_code == 202
