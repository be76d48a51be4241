from typing import Any

from tests.support.http import Site, check_problem


async def page(site: Site, **query: Any) -> dict[str, Any]:
    answer = await site.client.get("/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_an_empty_list(site: Site) -> None:
    assert await page(site) == {"object": "list", "data": [], "has_more": False, "next_cursor": None}


async def test_pages_are_newest_first_and_complete(site: Site) -> None:
    ids = [(await site.submit())["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        found = await page(site, limit=2, **cursor)
        assert found["has_more"] == (found["next_cursor"] is not None)
        seen += [job["id"] for job in found["data"]]
        if not found["has_more"]:
            break
        cursor = {"cursor": found["next_cursor"]}
    assert seen == sorted(ids, reverse=True)


async def test_a_full_last_page_has_no_more(site: Site) -> None:
    for _ in range(2):
        await site.submit()
    assert (await page(site, limit=2))["has_more"] is False


async def test_jobs_in_a_list_are_whole(site: Site) -> None:
    job = await site.submit()
    listed = (await page(site))["data"][0]
    assert listed.keys() == job.keys()
    assert listed["queue"]["position"] == 1


async def test_a_status_chooses(site: Site) -> None:
    done = await site.succeeded()
    queued = (await site.submit())["id"]
    assert [job["id"] for job in (await page(site, status="succeeded"))["data"]] == [done]
    assert [job["id"] for job in (await page(site, status="queued"))["data"]] == [queued]
    assert (await page(site, status="failed"))["data"] == []


async def test_bad_queries_are_refused(site: Site) -> None:
    for query, words in (
        ("limit=0", ("limit", "1")),
        ("limit=101", ("limit", "100")),
        ("limit=ten", ("limit",)),
        ("status=done", ("status", "queued")),
        ("cursor=x", ("cursor",)),
        ("cursor=%00", ("cursor",)),
    ):
        check_problem(await site.client.get(f"/v1/jobs?{query}"), 422, "invalid_parameter", *words)
