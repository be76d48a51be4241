"""Lists by tenant, state, model and time; whose jobs are listed; and what is refused."""

from typing import Any
from urllib.parse import quote

import pytest

from scheduler.keys import Scope
from scheduler.states import JobStatus
from tests.support.fleet import new_job
from tests.support.http import Site, check_problem


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first key have its effect at once."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def listed(site: Site, query: str = "", expected: int = 200, **params: Any) -> Any:
    answer = await site.client.get(f"/v1/jobs?{query}" if query else "/v1/jobs", params=params or None)
    assert answer.status_code == expected, answer.text
    return [job["id"] for job in answer.json()["data"]] if expected == 200 else answer


def submit(site: Site, **changes: Any) -> str:
    return site.scheduler.queue.submit(new_job(**changes)).job.id


async def test_a_status_may_be_repeated(site: Site) -> None:
    succeeded = await site.succeeded()
    cancelled = (await site.submit())["id"]
    site.scheduler.queue.cancel(cancelled)
    queued = (await site.submit())["id"]
    assert await listed(site, "status=queued&status=cancelled") == [queued, cancelled]
    assert await listed(site, "&".join(f"status={status.value}" for status in JobStatus)) == [
        queued, cancelled, succeeded,
    ]  # fmt: skip
    assert await listed(site, "status=running&status=failed") == []


async def test_a_model_chooses(site: Site) -> None:
    job = await site.submit()
    assert await listed(site, model=job["model"]) == [job["id"]]
    assert await listed(site, model="another/model") == []


async def test_times_choose_and_are_exclusive(site: Site) -> None:
    first, second, third = [await site.submit() for _ in range(3)]
    after, before = first["created_at"], third["created_at"]
    assert await listed(site, created_after=after) == [third["id"], second["id"]]
    assert await listed(site, created_before=before) == [second["id"], first["id"]]
    assert await listed(site, created_after=after, created_before=before) == [second["id"]]
    assert await listed(site, created_after="2020-01-01T02:00:00+02:00", limit=1) == [third["id"]]
    assert await listed(site, created_before="0001-01-01T00:00:00Z") == []


async def test_pages_keep_their_filters(site: Site) -> None:
    ids = [(await site.submit())["id"] for _ in range(5)]
    for job_id in ids[::2]:
        site.scheduler.queue.cancel(job_id)
    query: dict[str, Any] = {"status": "cancelled", "limit": 2}
    first = (await site.client.get("/v1/jobs", params=query)).json()
    rest = (await site.client.get("/v1/jobs", params=query | {"cursor": first["next_cursor"]})).json()
    assert [job["id"] for job in first["data"] + rest["data"]] == sorted(ids[::2], reverse=True)
    assert (first["has_more"], rest["has_more"]) == (True, False)


async def test_the_operator_sees_all_tenants_and_may_name_one(site: Site) -> None:
    mine, theirs = submit(site), submit(site, tenant="studio")
    assert set(await listed(site)) == {mine, theirs}
    assert await listed(site, tenant="studio") == [theirs]
    assert await listed(site, tenant="nobody") == []


async def test_others_see_their_own_only(site: Site) -> None:
    submit(site)
    own = submit(site, tenant="studio")
    scopes = {Scope.READ, Scope.SUBMIT}
    _, secret = site.scheduler.keys.create("dashboard", tenant="studio", scopes=scopes, actor="test")
    site.client.headers["Authorization"] = f"Bearer {secret}"
    assert await listed(site) == [own]
    assert await listed(site, tenant="studio") == [own]
    check_problem(await listed(site, tenant="default", expected=403), 403, "insufficient_scope", "another tenant")


@pytest.mark.parametrize("field", ["created_after", "created_before"])
@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "1767225600", "", "\x00"]
)
async def test_a_malformed_time_is_refused_by_its_name(site: Site, field: str, text: str) -> None:
    body = check_problem(
        await listed(site, f"{field}={quote(text)}", expected=422), 422, "invalid_parameter", field, "RFC 3339"
    )
    assert [error["field"] for error in body["errors"]] == [field]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("model=%00", "model"),
        (f"model={'m' * 201}", "model"),
        ("tenant=%00", "tenant"),
        ("tenant=Studio", "tenant"),
        ("status=queued&status=done", "status"),
    ],
)
async def test_what_cannot_be_is_refused(site: Site, query: str, field: str) -> None:
    check_problem(await listed(site, query, expected=422), 422, "invalid_parameter", field)


async def test_a_text_and_a_gpu_choose(site: Site) -> None:
    fox, kite = (submit(site, prompt=prompt) for prompt in ("a Red fox", "a red kite"))
    site.gpu.must_claim()
    assert await listed(site, q="RED FOX") == [fox]
    assert await listed(site, q=fox[:20].upper(), limit=1) == [fox]
    assert await listed(site, q="red", gpu=site.gpu.info.id) == [fox]
    assert await listed(site, gpu="GPU-none") == []
    assert await listed(site, q="red", status="queued") == [kite]


async def test_a_search_stays_within_the_callers_tenant(site: Site) -> None:
    ours, theirs = submit(site, tenant="ours"), submit(site, tenant="theirs")
    _, secret = site.scheduler.keys.create("ours", tenant="ours", scopes={Scope.READ}, actor="test")
    site.client.headers["Authorization"] = f"Bearer {secret}"
    assert await listed(site, q="kite") == [ours]
    assert await listed(site, q=theirs) == []


@pytest.mark.parametrize("text", ["", " ", "x" * 201, "a\x00b"])
async def test_a_text_that_is_none_is_refused(site: Site, text: str) -> None:
    check_problem(await listed(site, q=text, expected=422), 422, "invalid_parameter", "q ")


async def test_a_search_that_has_not_looked_at_all_jobs_says_where_to_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.search._AT_ONCE", 1)
    monkeypatch.setattr("scheduler.search.LOOKED_AT", 2)
    ids = [submit(site, prompt=prompt) for prompt in ("a fox", "a kite", "a kite")]
    page = (await site.client.get("/v1/jobs", params={"q": "fox"})).json()
    assert (page["data"], page["has_more"], page["next_cursor"]) == ([], True, ids[1])
    page = (await site.client.get("/v1/jobs", params={"q": "fox", "cursor": ids[1]})).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([ids[0]], False)
