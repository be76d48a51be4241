"""The page Submit over HTTP: what its form offers, and how another job fills it in."""

import json
import re
from html import unescape
from typing import Any

import pytest

from scheduler.keys import Scope
from scheduler.records import ServedModel
from tests.support.http import Site

BROWSER = {"Accept": "text/html"}
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the front end asks about callers be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def look(site: Site, **query: str) -> str:
    page = await site.client.get("/submit", params=query, headers=BROWSER)
    assert page.status_code == 200, page.text
    return page.text


def field(page: str, name: str) -> dict[str, str]:
    """Return the attributes of a form's input."""
    (tag,) = re.findall(rf'<input [^>]*\bid="{name}"[^>]*>', page)
    return {key: unescape(value) for key, value in re.findall(r'([\w-]+)="([^"]*)"', tag)}


async def test_the_form_has_the_limits_and_the_usual_values_of_the_model(site: Site) -> None:
    page = await look(site)
    (model,) = (await site.client.get("/v1/models")).json()["data"]
    for name, limit in model["limits"].items():
        shown = field(page, name)
        assert (float(shown["min"]), float(shown["max"])) == (limit["minimum"], limit["maximum"])
        assert shown["step"] == str(limit["multiple_of"] or "any")
        assert shown["value"] == ""
    assert field(page, "width")["placeholder"] == str(model["defaults"]["width"])
    assert field(page, "seed")["placeholder"] == "random"
    (told,) = re.findall(r'data-model="([^"]*)"', page)
    assert json.loads(unescape(told)) == model
    assert re.findall(r'name="preset" value="(\w+)"', page) == [preset["name"] for preset in model["presets"]]
    assert field(page, "image")["accept"] == "image/png,image/jpeg,image/webp"


async def test_without_a_model_it_says_so_and_looks_again(opened: Any) -> None:
    async with opened(with_gpu=False) as site:
        page = await look(site)
    assert "No model is served yet" in page
    assert 'data-refresh="5.0"' in page
    assert "<form id" not in page


async def test_a_job_fills_the_form_in_with_what_was_said_of_it(site: Site) -> None:
    job = await site.submit(
        prompt=HOSTILE,
        negative_prompt="rain",
        width="768",
        preset="high",
        seed="42",
        priority="2.5",
        allow_int8="true",
        metadata=json.dumps({"order": HOSTILE}),
        result_ttl_seconds="7200",
    )
    page = await look(site, **{"from": job["id"]})
    filled = {name: field(page, name)["value"] for name in ("width", "height", "num_inference_steps", "seed")}
    assert filled == {"width": "768", "height": "", "num_inference_steps": "", "seed": "42"}
    assert field(page, "priority")["value"] == "2.5"
    assert re.search(r'value="high" checked', page)
    assert re.search(r'name="allow_int8" checked', page)
    assert re.search(r'value="7200.0" selected>for 2h 00m<', page)
    assert "<script>alert" not in page
    texts = [unescape(text) for text in re.findall(r"<textarea[^>]*>([^<]*)</textarea>", page)]
    assert texts == [HOSTILE, "rain", json.dumps({"order": HOSTILE})]
    assert f'data-image="/v1/jobs/{job["id"]}/image"' in page


@pytest.mark.parametrize("job_id", ["job_00000000000000000000000000", "x", "\x00", "../../v1"])
async def test_a_job_that_is_not_there_leaves_the_form_empty(site: Site, job_id: str) -> None:
    page = await look(site, **{"from": job_id})
    assert "not there any more" in page
    assert "data-image" not in page
    assert field(page, "width")["value"] == ""


async def test_another_tenants_job_is_not_there(site: Site) -> None:
    job = await site.submit(prompt="a secret")
    _, secret = site.scheduler.keys.create("phone", tenant="acme", scopes=[Scope.READ, Scope.SUBMIT], actor="test")
    site.client.headers["Authorization"] = f"Bearer {secret}"
    page = await look(site, **{"from": job["id"]})
    assert "not there any more" in page
    assert "a secret" not in page


async def test_a_key_that_may_only_read_gets_no_form(site: Site) -> None:
    _, secret = site.scheduler.keys.create("phone", tenant="acme", scopes=[Scope.READ], actor="test")
    site.client.headers["Authorization"] = f"Bearer {secret}"
    page = await site.client.get("/submit", headers=BROWSER)
    assert page.status_code == 403
    assert "scope submit" in page.text


async def test_the_off_peak_window_is_offered_where_there_is_one(opened: Any) -> None:
    async with opened(off_peak="* 0-5 * * *", off_peak_time_zone="Europe/Berlin") as site:
        job = await site.submit(window="off_peak")
        page = await look(site)
        again = await look(site, **{"from": job["id"]})
    assert "<code>* 0-5 * * *</code>, Europe/Berlin" in page
    assert '<option value="off_peak">' in page
    assert '<option value="off_peak" selected>' in again


async def test_without_an_off_peak_window_there_is_nothing_to_choose(site: Site) -> None:
    assert "off_peak" not in await look(site)


async def test_the_model_of_the_job_is_chosen_where_there_are_several(site: Site) -> None:
    job = await site.submit(width="768")
    site.scheduler.fleet.register(ServedModel("tiny-random-noise", "i2vgen-xl-tiny", 1, "f"), [])
    page = await look(site)
    assert len(re.findall(r"data-model=", page)) == 2
    assert '<option value="tiny-random-noise"' in page
    again = await look(site, **{"from": job["id"]})
    assert re.search(rf'<option value="{job["model"]}"[^>]* selected>', again)
    assert field(again, "width")["min"] == "256"


async def test_a_job_of_a_model_that_is_gone_is_offered_to_another(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await site.submit(width="768")
    monkeypatch.setattr(
        type(site.scheduler.queue), "models", lambda _: {"new": ServedModel("new", "i2vgen-xl", 1, "f")}
    )
    page = await look(site, **{"from": job["id"]})
    assert f"No worker serves {job['model']} any more: the job would be made by new." in page
    assert field(page, "width")["value"] == "768"
