"""Webhooks, sent by a running front end to real servers on this machine."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from app import webhooks as sending
from app.access import Principal, _caller
from app.settings import FrontEndSettings
from scheduler.keys import Scope
from scheduler.service import Scheduler
from scheduler.webhooks import DEFAULT_EVENTS
from tests.support.databases import Clock, clock
from tests.support.fleet import ERROR, new_job
from tests.support.http import Site, check_problem, until
from tests.support.receiver import Receiver, receiving

__all__ = ["clock"]

HOOKS, DELIVERIES, SECRET = "/v1/webhooks", "/v1/webhooks/deliveries", "/v1/webhooks/secret"
HERE = {"allow_http_urls": True, "allowed_networks": "127.0.0.1/32"}
UNKNOWN = "01jd0000000000000000000000"


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    """Start a receiver with each call."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(receiving())


@pytest.fixture
def receiver(receivers: Callable[[], Receiver]) -> Receiver:
    return receivers()


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_POLL_SECONDS", 0.02)  # the clock of most tests stands still until it is moved


@pytest.fixture
async def site(opened: Any) -> AsyncIterator[Site]:
    async with opened(**HERE) as site:
        yield site


def cancelled(site: Site, url: str, **changes: Any) -> str:
    """Return the id of a job that was submitted with a webhook, and cancelled."""
    job = new_job(webhook_url=url, webhook_events=DEFAULT_EVENTS, **changes)
    site.scheduler.queue.submit(job)
    site.scheduler.queue.cancel(job.id)
    return job.id


async def get(site: Site, path: str, **query: Any) -> Any:
    answer = await site.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def post(site: Site, path: str) -> Any:
    answer = await site.client.post(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def settled(site: Site, status: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many deliveries have a status, and return them with their tries."""
    found = site.scheduler.webhooks.deliveries
    await until(lambda: sum(one.status == status for one in found()) == count)
    return [
        await get(site, f"{DELIVERIES}/{one['id']}") for one in (await get(site, DELIVERIES, status=status))["data"]
    ]


async def tried(site: Site, count: int) -> dict[str, Any]:
    """Wait until the only delivery has been tried so often, and return it."""
    found = site.scheduler.webhooks.deliveries
    await until(lambda: [one.tries for one in found()] == [count])
    return dict(await get(site, f"{DELIVERIES}/{found()[0].id}"))


async def test_a_video_is_told_once_with_a_good_signature(site: Site, receiver: Receiver) -> None:
    job = new_job(webhook_url=receiver.url, webhook_events=DEFAULT_EVENTS, metadata={"order": "Nº 7"})
    site.scheduler.queue.submit(job)
    site.finish(site.gpu.must_claim())
    (delivery,) = await settled(site, "delivered")
    secret = (await get(site, SECRET))["secret"]

    (told,) = receiver.verified(secret)
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "type": "job.succeeded",
        "data": {
            "id": job.id,
            "object": "job",
            "status": "succeeded",
            "model": job.model,
            "metadata": {"order": "Nº 7"},
            "error": None,
            "video": {"url": None, "thumbnail_url": None, "preview_url": None},  # nobody knows what they begin with
        },
    }
    (headers, _) = receiver.got[0]
    assert (headers["webhook-id"], headers["content-type"]) == (delivery["id"], "application/json")
    assert (delivery["job"], delivery["type"], delivery["tries"]) == (job.id, "job.succeeded", 1)
    assert delivery["payload"]["data"] == told["data"]
    assert [(one["number"], one["status"], one["error"]) for one in delivery["log"]] == [(1, 204, None)]


async def test_a_job_submitted_over_http_is_told_of_what_it_names(site: Site, receiver: Receiver) -> None:
    events = '["job.running", "job.succeeded"]'
    job = await site.submit(webhook_url=receiver.url, webhook_events=events)
    lease = site.gpu.must_claim()
    await settled(site, "delivered")
    site.finish(lease)
    await settled(site, "delivered", 2)
    told = receiver.verified((await get(site, SECRET))["secret"])
    assert [(one["type"], one["data"]["status"], one["data"]["id"]) for one in told] == [
        ("job.running", "running", job["id"]),
        ("job.succeeded", "succeeded", job["id"]),
    ]


async def test_a_failure_is_told_with_its_error_and_whole_urls_where_they_are_known(
    opened: Any, receiver: Receiver
) -> None:
    async with opened(**HERE, public_url="https://video.example/reelq/") as site:
        for _ in range(2):
            events = ["job.succeeded", "job.failed"]
            site.scheduler.queue.submit(new_job(webhook_url=receiver.url, webhook_events=events))
        site.scheduler.leases.fail(site.gpu.must_claim(), ERROR)
        lease = site.gpu.must_claim()
        site.finish(lease, with_preview=False)
        await settled(site, "delivered", 2)
        secret = (await get(site, SECRET))["secret"]
    told = {one["type"]: one["data"] for one in receiver.verified(secret)}
    assert told["job.failed"]["error"] == {"code": ERROR.code, "message": ERROR.message}
    assert told["job.failed"]["video"] is None
    assert told["job.succeeded"]["video"] == {
        "url": f"https://video.example/reelq/v1/jobs/{lease.job_id}/video",
        "thumbnail_url": f"https://video.example/reelq/v1/jobs/{lease.job_id}/thumbnail",
        "preview_url": None,
    }


async def test_a_receiver_that_fails_twice_is_told_at_the_third_try(
    clock: Clock, site: Site, receiver: Receiver
) -> None:
    receiver.replies = [(500, {}), (503, {"Retry-After": "900"})]
    cancelled(site, receiver.url)
    first = await tried(site, 1)
    assert (first["status"], first["log"][0]["error"]) == ("pending", "the server answered 500")
    clock.advance(6)
    await tried(site, 2)
    clock.advance(890)
    assert site.scheduler.webhooks.claim_due(1, 60) == [], "it has asked for more time than the schedule has"
    clock.advance(10)
    (delivery,) = await settled(site, "delivered")
    assert [one["status"] for one in delivery["log"]] == [500, 503, 204]
    assert len(set(receiver.ids)) == 1
    assert len({body for _, body in receiver.got}) == 1
    (hook,) = (await get(site, HOOKS))["data"]
    assert (hook["url"], hook["state"], hook["failing_since"]) == (receiver.url, "enabled", None)


async def test_redirects_are_not_followed(site: Site, receivers: Callable[[], Receiver]) -> None:
    receiver, other = receivers(), receivers()
    receiver.replies = [(307, {"Location": other.url})]
    cancelled(site, receiver.url)
    delivery = await tried(site, 1)
    (only,) = delivery["log"]
    assert (only["status"], only["error"]) == (307, "the server answered 307, and redirects are not followed")
    assert other.got == []


async def test_what_cannot_be_reached_is_tried_again(site: Site) -> None:
    cancelled(site, "http://127.0.0.1:1023/hook")
    delivery = await tried(site, 1)
    (only,) = delivery["log"]
    assert (only["status"], delivery["status"]) == (None, "pending")
    assert only["error"]
    assert delivery["next_try_at"]


async def test_an_address_that_is_not_public_is_not_asked(opened: Any, receiver: Receiver) -> None:
    async with opened(allow_http_urls=True) as site:
        cancelled(site, receiver.url)
        delivery = await tried(site, 1)
    (only,) = delivery["log"]
    assert only["error"] == "the URL must not lead to an address that is not public"
    assert receiver.got == []


async def test_a_tenant_whose_receivers_never_answer_holds_up_no_other(
    site: Site, receivers: Callable[[], Receiver]
) -> None:
    silent, quick = receivers(), receivers()
    silent.open.clear()
    for index in range(80):
        cancelled(site, f"{silent.url}/{index}", tenant="mallory")
    await until(lambda: len(silent.got) == 4)
    cancelled(site, quick.url, tenant="alice")
    await until(lambda: quick.got)
    assert len(silent.got) == 4, "and it has no more than its share of the places"
    silent.open.set()
    await settled(site, "delivered", 81)


async def test_an_endpoint_that_is_gone_waits_until_it_is_enabled(site: Site, receiver: Receiver) -> None:
    receiver.replies = [(410, {})]
    cancelled(site, receiver.url)
    (hook,) = await disabled(site)
    assert (hook["state"], hook["reason"]) == ("disabled", "the receiver answered that it is gone for good")
    cancelled(site, receiver.url)
    waiting = await settled(site, "pending", 2)
    assert {(one["next_try_at"], one["held"]) for one in waiting} == {(None, True)}
    refused = await site.client.post(f"{DELIVERIES}/{waiting[0]['id']}/redeliver")
    check_problem(refused, 409, "invalid_state", "enable it first")
    events = (await get(site, "/v1/admin/events", subject=hook["id"]))["data"]
    assert [(one["type"], one["data"]) for one in events] == [
        ("webhook.disabled", {"url": receiver.url, "reason": hook["reason"]})
    ]

    enabled = await post(site, f"{HOOKS}/{hook['id']}/enable")
    assert (enabled["state"], enabled["reason"], enabled["disabled_at"]) == ("enabled", None, None)
    await settled(site, "delivered", 2)
    assert len(receiver.got) == 3


async def disabled(site: Site) -> list[dict[str, Any]]:
    await until(lambda: any(one.disabled_at for one in site.scheduler.webhooks.endpoints()))
    return list((await get(site, HOOKS))["data"])


async def test_redelivery_sends_the_same_again(site: Site, receiver: Receiver) -> None:
    cancelled(site, receiver.url)
    (first,) = await settled(site, "delivered")
    asked = await post(site, f"{DELIVERIES}/{first['id']}/redeliver")
    assert asked["id"] == first["id"]
    await tried(site, 2)
    assert receiver.ids == [first["id"], first["id"]]
    assert receiver.got[0][1] == receiver.got[1][1]


async def test_after_a_rotation_both_secrets_verify(site: Site, receiver: Receiver) -> None:
    old = await get(site, SECRET)
    new = await post(site, f"{SECRET}/rotate")
    assert new["in_force"] == [new["secret"], old["secret"]]
    cancelled(site, receiver.url)
    await settled(site, "delivered")
    assert receiver.verified(old["secret"]) == receiver.verified(new["secret"])
    (headers, _) = receiver.got[0]
    assert len(headers["webhook-signature"].split(" ")) == 2


async def test_a_slow_receiver_holds_up_nobody_else(site: Site, receivers: Callable[[], Receiver]) -> None:
    slow, quick = receivers(), receivers()
    slow.open.clear()
    for _ in range(20):  # more than may be under way at once
        cancelled(site, slow.url)
    await until(lambda: slow.got)
    for _ in range(3):
        cancelled(site, quick.url)
    await until(lambda: len(quick.got) == 3)
    assert len(slow.got) == 1
    slow.open.set()
    await settled(site, "delivered", 23)
    assert len(set(slow.ids)) == 20


async def test_what_is_cut_off_at_shutdown_is_sent_by_the_next(opened: Any, receiver: Receiver, clock: Clock) -> None:
    receiver.open.clear()
    async with opened(**HERE, request_grace_seconds=0.1) as site:
        settings: FrontEndSettings = site.settings
        job_id = cancelled(site, receiver.url)
        await until(lambda: receiver.got)
    with Scheduler.open(settings) as again:
        assert again.webhooks.claim_due(1, 60) == []
        clock.advance(61)
        (due,) = again.webhooks.claim_due(1, 60)
        assert (due.delivery_id, due.payload.encode()) == (receiver.ids[0], receiver.got[0][1])
        assert again.webhooks.delivery(due.delivery_id)[0].job_id == job_id


async def test_another_tenant_finds_nothing(site: Site, receiver: Receiver) -> None:
    receiver.replies = [(410, {})]
    cancelled(site, receiver.url, tenant="acme")
    (hook,) = await disabled(site)
    (delivery,) = (await get(site, DELIVERIES))["data"]
    secret = await get(site, SECRET)
    stranger = Principal("zeta", frozenset({Scope.SUBMIT, Scope.READ}), "key_1 (zeta)", "key_1")
    site.app.dependency_overrides[_caller] = lambda: stranger

    assert (await get(site, HOOKS))["data"] == []
    assert (await get(site, DELIVERIES))["data"] == []
    assert (await get(site, DELIVERIES, job=delivery["job"]))["data"] == []
    assert (await get(site, SECRET)) != secret
    check_problem(await site.client.get(f"{DELIVERIES}/{delivery['id']}"), 404, "not_found")
    check_problem(await site.client.post(f"{DELIVERIES}/{delivery['id']}/redeliver"), 404, "not_found")
    check_problem(await site.client.post(f"{HOOKS}/{hook['id']}/enable"), 404, "not_found")

    site.app.dependency_overrides[_caller] = lambda: Principal("acme", stranger.scopes, "key_2 (acme)", "key_2")
    assert (await get(site, HOOKS))["data"] == [hook]
    assert (await get(site, f"{DELIVERIES}/{delivery['id']}"))["job"] == delivery["job"]


async def test_lists_go_from_page_to_page(site: Site, receiver: Receiver) -> None:
    jobs = [cancelled(site, f"{receiver.url}/{index}") for index in range(5)]
    await settled(site, "delivered", 5)
    for path, name, expected in (
        (DELIVERIES, "job", set(jobs)),
        (HOOKS, "url", {f"{receiver.url}/{index}" for index in range(5)}),
    ):
        seen, more = list[str](), True
        cursor: dict[str, str] = {}
        while more:
            page = await get(site, path, limit=2, **cursor)
            seen += [one[name] for one in page["data"]]
            more, cursor = page["has_more"], {"cursor": page["next_cursor"]}
        assert (len(seen), set(seen)) == (5, expected)
    (only,) = (await get(site, DELIVERIES, job=jobs[2]))["data"]
    assert only["job"] == jobs[2]


@pytest.mark.parametrize("identifier", [f"msg_{UNKNOWN}", f"we_{UNKNOWN}", "x", "%00", "secret"])
async def test_what_is_not_there(site: Site, identifier: str) -> None:
    check_problem(await site.client.get(f"{DELIVERIES}/{identifier}"), 404, "not_found")
    check_problem(await site.client.post(f"{DELIVERIES}/{identifier}/redeliver"), 404, "not_found")
    check_problem(await site.client.post(f"{HOOKS}/{identifier}/enable"), 404, "not_found")


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("limit=101", "limit"), ("cursor=x", "cursor"), ("cursor=%00", "cursor")]
)
@pytest.mark.parametrize("path", [HOOKS, DELIVERIES])
async def test_bad_queries_are_refused(site: Site, path: str, query: str, field: str) -> None:
    check_problem(await site.client.get(f"{path}?{query}"), 422, "invalid_parameter", field)


@pytest.mark.parametrize(("query", "field"), [("status=x", "status"), ("job=x", "job"), ("job=%00", "job")])
async def test_bad_filters_are_refused(site: Site, query: str, field: str) -> None:
    check_problem(await site.client.get(f"{DELIVERIES}?{query}"), 422, "invalid_parameter", field)
