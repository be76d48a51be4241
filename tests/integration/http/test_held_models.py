"""Holding a model over HTTP: its jobs wait, and say why."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.fleet import MODEL
from tests.support.http import Site, check_problem

PATH = f"/v1/admin/models/{MODEL.id}"


async def hold(site: Site, path: str = PATH, **body: Any) -> Any:
    return await site.client.post(f"{path}/hold", json=body)


async def held(site: Site) -> str | None:
    (model,) = (await site.client.get("/v1/models")).json()["data"]
    return model["held"]  # type: ignore[no-any-return]


async def test_a_held_models_jobs_wait_and_say_why(site: Site) -> None:
    answer = await hold(site, reason=" its weights are damaged ")

    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], answer.json()["held"]) == (MODEL.id, "its weights are damaged")
    assert await held(site) == "its weights are damaged"
    job = await site.submit()
    assert site.gpu.claim() is None
    wait = (await site.client.get(f"/v1/jobs/{job['id']}")).json()["queue"]["wait"]
    assert wait["code"] == "model_held"
    assert wait["details"]["reason"] == "its weights are damaged"

    released = await site.client.post(f"{PATH}/release")

    assert (released.status_code, released.json()["held"]) == (200, None)
    assert site.gpu.must_claim().job_id == job["id"]
    events = (await site.client.get("/v1/admin/events", params={"subject": MODEL.id})).json()["data"]
    assert [(event["type"], event["actor"]) for event in events] == [
        ("model.held", "local"),
        ("model.released", "local"),
    ]


async def test_saying_it_again_changes_the_reason_or_nothing(site: Site) -> None:
    assert (await site.client.post(f"{PATH}/release")).status_code == 200
    await hold(site, reason="a")
    assert (await hold(site, reason="b")).json()["held"] == "b"
    for _ in range(2):
        assert (await site.client.post(f"{PATH}/release")).json()["held"] is None


async def test_a_models_id_may_be_escaped(site: Site) -> None:
    assert (await hold(site, f"/v1/admin/models/{quote(MODEL.id, safe='')}", reason="a")).status_code == 200
    assert await held(site) == "a"


@pytest.mark.parametrize("model", ["nobody/knows", "x", "%00", "y" * 3000, "%2e%2e"])
async def test_what_is_no_model_is_not_found(site: Site, model: str) -> None:
    check_problem(await hold(site, f"/v1/admin/models/{model}", reason="a"), 404, "not_found")
    check_problem(await site.client.post(f"/v1/admin/models/{model}/release"), 404, "not_found")


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": 7}, {"reason": "a", "until": 5}]
)
async def test_bad_bodies_are_refused(site: Site, body: dict[str, Any]) -> None:
    check_problem(await hold(site, **body), 422, "invalid_parameter")
    assert await held(site) is None


async def test_other_sites_may_not(site: Site) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    for verb in ("hold", "release"):
        answer = await site.client.post(f"{PATH}/{verb}", json={"reason": "a"}, headers=foreign)
        check_problem(answer, 403, "cross_site")
    assert await held(site) is None
