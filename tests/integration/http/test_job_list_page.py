"""The list of jobs as a page."""

import re

import pytest

from app.dashboard import listing
from scheduler.ids import new_id
from scheduler.keys import Scope
from tests.support.fleet import ERROR
from tests.support.http import Site, check_problem

BROWSER = {"Accept": "text/html"}
NASTY = "<script>alert(1)</script> \"x\" 'y' & z"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the front end asks about callers be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def look(site: Site, path: str = "/jobs", **query: str) -> str:
    answer = await site.client.get(path, params=query or None, headers=BROWSER)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def listed(page: str) -> list[str]:
    return re.findall(r'<tr id="(job_\w+)"', page)


def sign_in(site: Site, *scopes: Scope, tenant: str = "default") -> None:
    secret = site.scheduler.keys.create("k", tenant=tenant, scopes=scopes, actor="test")[1]
    site.client.headers["Authorization"] = f"Bearer {secret}"


async def test_without_jobs_it_leads_to_the_first(site: Site) -> None:
    page = await look(site)
    assert "No jobs yet" in page
    assert 'href="/submit"' in page
    assert "No job is running" in await look(site, status="running")
    assert "No job matches" in await look(site, q="fox")


async def test_each_state_is_told(site: Site) -> None:
    done = await site.succeeded()
    failed = (await site.submit(prompt="to fail"))["id"]
    site.scheduler.leases.fail(site.gpu.must_claim(), ERROR)
    running = (await site.submit(prompt="to run"))["id"]
    site.gpu.must_claim()
    queued = (await site.submit(prompt=NASTY))["id"]
    page = await look(site)
    assert listed(page) == [queued, running, failed, done]
    for words in ("next in line", "loading, ", "pipeline error", "16 frames, 50 steps", ">succeeded<"):
        assert words in page
    assert f'src="/v1/jobs/{done}/thumbnail"' in page
    assert f'src="/v1/jobs/{queued}/image"' in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert 'data-priority="1.0"' in page
    assert re.findall(r'class="count">(\d+)<', page) == ["1", "1", "1", "1"]


async def test_states_words_and_other_filters_choose(site: Site) -> None:
    done = await site.succeeded()
    kite = (await site.submit(prompt="a Kite over the sea"))["id"]
    assert listed(await look(site, status="succeeded")) == [done]
    assert listed(await look(site, q="SEA kite")) == [kite]
    assert listed(await look(site, q=kite[:20])) == listed(await look(site))[: 1 + (done[:20] == kite[:20])]
    assert listed(await look(site, gpu="GPU-0")) == [done]
    assert listed(await look(site, tenant="acme")) == []
    assert listed(await look(site, created_after="2999-01-01T00:00:00Z")) == []
    assert len(listed(await look(site, model=str(site.gpu.info.model), created_before="2999-01-01T00:00:00Z"))) == 2
    narrowed = await look(site, status="queued", q="kite")
    assert 'href="/jobs?status=queued"' in narrowed, "it can be cleared"
    assert 'name="status" value="queued"' in narrowed, "another search keeps the state"


async def test_pages_go_older_and_newer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_JOBS", 2)
    ids = [(await site.submit())["id"] for _ in range(5)][::-1]

    def to(rel: str, page: str) -> str | None:
        link = re.search(rf'href="([^"]+)" rel="{rel}"', page)
        return link and link[1].replace("&amp;", "&")

    first = await look(site, status="queued")
    assert (listed(first), to("prev", first)) == (ids[:2], None)
    second = await look(site, to("next", first) or "")
    third = await look(site, to("next", second) or "")
    assert (listed(second), listed(third), to("next", third)) == (ids[2:4], ids[4:], None)
    back = await look(site, to("prev", third) or "")
    assert listed(back) == ids[2:4]
    assert listed(await look(site, to("prev", back) or "")) == ids[:2]
    assert listed(await look(site, after=ids[1])) == ids[:2], "where no full page is newer, the newest are"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=done", "status"),
        ("q=" + "x" * 300, "at most 200"),
        ("tenant=A%20B", "tenant"),
        ("before=job_1", "before"),
        ("after=%00", "after"),
        ("created_after=soon", "created_after"),
        ("model=%00", "model"),
    ],
)
async def test_a_bad_query_is_told_on_a_page(site: Site, query: str, words: str) -> None:
    answer = await site.client.get(f"/jobs?{query}", headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "text/html; charset=utf-8")
    assert words in answer.text


async def test_a_page_of_a_job_that_is_gone_is_a_page(site: Site) -> None:
    await site.submit()
    assert "No job matches" in await look(site, before="job_" + "0" * 26)
    assert len(listed(await look(site, before=new_id("job")))) == 1


async def test_a_reader_sees_its_own_tenants_jobs_and_no_buttons(site: Site) -> None:
    other = (await site.submit(prompt="of the others"))["id"]
    sign_in(site, Scope.READ, Scope.SUBMIT, tenant="acme")
    own = (await site.submit(prompt="my own"))["id"]
    page = await look(site)
    assert listed(page) == [own]
    assert 'name="job"' in page
    assert "data-priority" not in page
    assert "Tenant" not in page

    sign_in(site, Scope.READ, tenant="acme")
    page = await look(site, tenant="default")
    assert listed(page) == [own], "another tenant's are not to be asked for"
    assert other not in page
    for button in ('name="job"', "data-bulk", "data-priority", 'href="/submit"'):
        assert button not in page


async def test_the_operator_sees_everybodys(site: Site) -> None:
    sign_in(site, Scope.READ, Scope.SUBMIT, tenant="acme")
    theirs = (await site.submit())["id"]
    sign_in(site, *Scope)
    ours = (await site.submit())["id"]
    page = await look(site)
    assert listed(page) == [ours, theirs]
    assert 'href="/jobs?tenant=acme"' in page
    assert listed(await look(site, tenant="acme")) == [theirs]


async def test_costs_are_shown_where_gpus_are_priced(opened: object) -> None:
    async with opened(gpu_hour_cost=3600.0) as site:  # type: ignore[operator]
        await site.succeeded()
        page = await look(site)
        assert ">Cost<" in page
        assert '<td class="number">6.25</td>' in page, "12.5 s, shared with one other"


async def test_no_model_yet_is_no_error(opened: object) -> None:
    async with opened(with_gpu=False) as site:  # type: ignore[operator]
        assert "No jobs yet" in await look(site)


async def test_machines_get_no_page_for_errors(site: Site) -> None:
    answer = await site.client.get("/jobs?status=done", headers={"Accept": "application/json"})
    check_problem(answer, 422, "invalid_parameter", "status")
