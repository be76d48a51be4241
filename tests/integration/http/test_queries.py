"""Lists refuse what they do not know: a filter that is misspelt would otherwise list everything."""

import pytest

from tests.support.http import Site, check_problem

LISTS = ("/v1/jobs", "/v1/videos", "/v1/webhooks", "/v1/webhooks/deliveries", "/v1/admin/events")


@pytest.mark.parametrize("path", LISTS)
async def test_an_unknown_parameter_is_refused_by_name(site: Site, path: str) -> None:
    assert (await site.client.get(f"{path}?limit=5")).status_code == 200
    answer = await site.client.get(f"{path}?limit=5&state=failed&page=2&state=queued")
    body = check_problem(answer, 422, "invalid_parameter", "state is not a known parameter")
    assert [error["field"] for error in body["errors"]] == ["state", "page"]


async def test_a_wrong_one_of_several_is_named_without_an_index(site: Site) -> None:
    answer = await site.client.get("/v1/jobs?status=queued&status=done")
    body = check_problem(answer, 422, "invalid_parameter", "status must be")
    assert [error["field"] for error in body["errors"]] == ["status"]


async def test_what_is_no_number_is_shown(site: Site) -> None:
    answer = await site.client.get("/v1/jobs?limit=ten")
    check_problem(answer, 422, "invalid_parameter", "limit must be an integer, not 'ten'")
