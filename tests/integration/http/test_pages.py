"""The pages over HTTP: who gets which, what surrounds them, and sessions."""

import html
import re
from collections.abc import Mapping

import httpx
import pytest

from app.dashboard.pages import PAGES
from scheduler.errors import StoreUnreachable
from scheduler.keys import Scope
from scheduler.store.database import Database
from tests.support.http import URL, Site, check_problem

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HERE = BROWSER | {"Sec-Fetch-Site": "same-origin"}
ELSEWHERE = BROWSER | {"Sec-Fetch-Site": "cross-site"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the front end asks about callers be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


def key(site: Site, *scopes: Scope, tenant: str = "acme") -> str:
    return site.scheduler.keys.create("phone", tenant=tenant, scopes=scopes or list(Scope), actor="test")[1]


async def sign_in(site: Site, secret: str, headers: Mapping[str, str] = HERE, wanted: str = "/") -> httpx.Response:
    """Sign the site's client in: it keeps the cookie."""
    return await site.client.post("/sign-in", data={"key": secret, "next": wanted}, headers=headers)


async def look(site: Site, path: str = "/", **headers: str) -> httpx.Response:
    return await site.client.get(path, headers=BROWSER | headers)


async def test_the_root_is_a_page_for_browsers_and_json_for_machines(site: Site) -> None:
    page = await look(site)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>Overview</h1>" in page.text
    for accept in ("*/*", "application/json", ""):
        answer = await site.client.get("/", headers={"Accept": accept})
        assert answer.json()["name"] == "reelq"
    assert "Accept" in page.headers["vary"]
    assert "Accept" in answer.headers["vary"]


async def test_a_page_runs_no_script_but_its_own(site: Site) -> None:
    page = await look(site)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", page.text)
    assert page.headers["cache-control"] == "private, no-cache"


async def test_what_has_not_changed_is_not_sent_again(site: Site) -> None:
    site.scheduler.fleet.worker_gone(site.gpu.workers[0])
    page = await look(site, "/sign-in")
    assert page.status_code == 303, "without keys there is nothing to sign in to"
    first = await look(site)
    again = await look(site, **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await site.submit()
    assert (await look(site, **{"If-None-Match": first.headers["etag"]})).status_code == 200


async def test_assets_are_named_by_what_is_in_them(site: Site) -> None:
    key(site)
    page = await look(site, "/sign-in")
    (style,) = re.findall(r'href="(/static/[^"]+\.css)"', page.text)
    asset = await site.client.get(style)
    assert (asset.status_code, asset.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in asset.headers["cache-control"]
    other = await site.client.get("/static/0/style.css")
    assert (other.content, other.headers["cache-control"]) == (asset.content, "no-store")
    for wrong in (style.replace("style.css", "none.css"), "/static/x/%2e%2e%2fpages.py"):
        check_problem(await site.client.get(wrong), 404, "not_found")


async def test_what_a_caller_named_is_text_and_nothing_else(site: Site) -> None:
    site.scheduler.control.pause("<script>alert(1)</script>", "<b>me</b>")
    page = await look(site)
    assert "<script>alert" not in page.text
    assert "<b>me" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text


async def test_a_stranger_is_led_to_sign_in_and_back(site: Site) -> None:
    secret = key(site)
    page = await look(site, "/gpus?state=active")
    assert (page.status_code, page.headers["location"]) == (303, "/sign-in?next=%2Fgpus%3Fstate%3Dactive")
    form = await look(site, page.headers["location"])
    assert 'value="/gpus?state=active"' in form.text
    answer = await sign_in(site, secret, wanted="/gpus?state=active")
    assert (answer.status_code, answer.headers["location"]) == (303, "/gpus?state=active")
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/"} <= set(cookie.split("; "))
    assert secret.lower() not in cookie
    assert (await look(site)).status_code == 200


@pytest.mark.parametrize("path", ["/gpus/%E6%97%A5%3Fa%23b%25", "/jobs?q=%E6%97%A5+%26", "/jobs/%2F%2Fevil.example"])
async def test_the_way_back_is_the_same_whatever_is_in_it(site: Site, path: str) -> None:
    secret = key(site)
    form = await look(site, (await look(site, path)).headers["location"])
    (wanted,) = re.findall(r'name="next" value="([^"]*)"', form.text)
    answer = await sign_in(site, secret, wanted=html.unescape(wanted))
    assert (answer.status_code, answer.headers["location"]) == (303, path.replace("%2F", "/"))


async def test_signing_in_does_not_fail_for_the_way_back(site: Site) -> None:
    secret = key(site)
    assert (await sign_in(site, secret, wanted="/jobs?q=日 本")).headers["location"] == "/jobs?q=%E6%97%A5%20%E6%9C%AC"
    assert (await sign_in(site, secret, wanted="/" + "x" * 3000)).headers["location"] == "/"
    assert (await sign_in(site, "x" * 3000)).status_code == 401
    site.client.cookies.clear()
    answer = await site.client.post("/sign-in", files={"key": b"no text"}, headers=HERE)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", "/a\r\nX: y"]
)
async def test_signing_in_leads_nowhere_else(site: Site, wanted: str) -> None:
    answer = await sign_in(site, key(site), wanted=wanted)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_wrong_key_is_refused_in_the_form(site: Site) -> None:
    key(site)
    answer = await sign_in(site, "rq_nonsense")
    assert answer.status_code == 401
    assert "unknown, revoked or expired" in answer.text
    assert "set-cookie" not in answer.headers
    assert "rq_nonsense" not in answer.text


async def test_the_cookie_is_for_secure_connections_where_the_service_has_one(opened: object) -> None:
    async with opened(public_url="https://video.example") as site:  # type: ignore[operator]
        assert "secure" in (await sign_in(site, key(site))).headers["set-cookie"].lower()


async def test_a_session_does_what_its_key_may(site: Site) -> None:
    await sign_in(site, key(site, Scope.READ))
    assert (await site.client.get("/v1/jobs")).status_code == 200
    check_problem(await site.post(headers=HERE), 403, "insufficient_scope", "submit")
    page = await look(site, "/gpus")
    assert page.status_code == 403
    assert "scope admin" in page.text


async def test_another_site_cannot_use_a_session(site: Site) -> None:
    await sign_in(site, key(site))
    check_problem(
        await site.client.post("/v1/admin/queue/pause", json={"reason": "x"}, headers=ELSEWHERE), 403, "cross_site"
    )
    foreign = {"Origin": "https://evil.example"}
    check_problem(await site.post(headers=foreign), 403, "cross_site")
    assert (await site.post(headers={"Origin": URL})).status_code == 202


async def test_another_site_cannot_sign_a_reader_in(site: Site) -> None:
    answer = await sign_in(site, key(site), headers=ELSEWHERE)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "other web sites" in answer.text
    assert "set-cookie" not in answer.headers


async def test_a_key_in_the_header_comes_before_a_session(site: Site) -> None:
    await sign_in(site, key(site))
    wrong = {"Authorization": "Bearer rq_wrong"}
    check_problem(await site.client.get("/v1/jobs", headers=wrong), 401, "unauthorized")


async def test_a_session_ends_with_its_sign_out_and_with_its_key(site: Site) -> None:
    secret = key(site)
    await sign_in(site, secret)
    kept = dict(site.client.cookies)
    answer = await site.client.post("/sign-out", headers=HERE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    site.client.cookies.update(kept)
    assert (await look(site)).status_code == 303

    await sign_in(site, secret)
    assert (await look(site)).status_code == 200
    site.scheduler.keys.revoke(site.scheduler.keys.list()[0].id, "test")
    assert (await look(site)).status_code == 303


async def test_who_signs_in_anew_leaves_no_session_behind(site: Site) -> None:
    secret = key(site)
    await sign_in(site, secret)
    kept = dict(site.client.cookies)
    assert (await sign_in(site, "rq_nonsense")).status_code == 401
    assert (await look(site)).status_code == 200, "one that fails changes nothing"
    await sign_in(site, secret)
    assert dict(site.client.cookies) != kept
    assert (await look(site)).status_code == 200
    site.client.cookies.clear()
    site.client.cookies.update(kept)
    assert (await look(site)).status_code == 303


async def test_each_view_takes_its_scope(site: Site) -> None:
    site.client.headers["Authorization"] = f"Bearer {key(site, Scope.READ)}"
    text = (await look(site)).text
    for page in PAGES:
        assert (f'href="{page.path}"' in text.partition("</nav>")[0].partition("<nav")[2]) == (page.scope is Scope.READ)
        expected = (200,) if page.scope is Scope.READ else (403,)
        assert (await look(site, page.path)).status_code in expected


async def test_a_tenants_overview_tells_nothing_of_others(site: Site) -> None:
    other = await site.submit()
    site.gpu.must_claim()
    site.client.headers["Authorization"] = f"Bearer {key(site, Scope.READ, tenant='acme')}"
    text = (await look(site)).text
    assert other["id"] not in text
    assert "GPU-0" not in text
    assert "Nothing runs" in text


@pytest.mark.parametrize("remembered_seconds", [0.0, 600.0])
async def test_without_the_database_every_view_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, remembered_seconds: float
) -> None:
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", remembered_seconds)
    secret = key(site)
    await sign_in(site, secret)
    assert (await look(site)).status_code == 200

    def away(*_args: object, **_kwargs: object) -> None:
        raise StoreUnreachable('connection to "10.0.0.7", user "reelq" refused')

    for way in ("read", "write", "trip", "glance"):
        monkeypatch.setattr(Database, way, away)
    answers = [await look(site, page.path) for page in PAGES]
    answers += [await sign_in(site, secret), await site.client.post("/sign-out", headers=HERE)]
    for page in answers:
        assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert "cannot be used just now" in page.text
        assert "10.0.0.7" not in page.text


async def test_errors_are_pages_for_browsers(site: Site) -> None:
    page = await look(site, "/nothing")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "no route GET /nothing" in page.text
    assert page.headers["x-request-id"] in page.text
    check_problem(await look(site, "/v1/nothing"), 404, "not_found")
