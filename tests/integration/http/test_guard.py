from typing import Any

import pytest

from tests.support.http import Site, check_problem


async def test_loopback_hosts_are_served(site: Site) -> None:
    for host in ("127.0.0.1", "127.0.0.1:9", "localhost", "LocalHost:8000", "[::1]", "[::1]:8000", "127.9.9.9"):
        assert (await site.client.get("/healthz", headers={"Host": host})).status_code == 200, host


async def test_other_hosts_are_refused(site: Site) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]"):
        check_problem(await site.client.get("/v1/jobs", headers={"Host": host}), 421, "host_not_allowed", "localhost")


async def test_hosts_that_are_none_are_refused(opened: Any) -> None:
    async with opened(trusted_network=True) as site:
        for host in ("", "a b", "[::1", "[::1]x", "user@localhost", "localhost:port", "localhost/x"):
            check_problem(await site.client.get("/healthz", headers={"Host": host}), 400, "invalid_host")


async def test_two_hosts_are_none(site: Site) -> None:
    twice = [("Host", "127.0.0.1"), ("Host", "localhost")]
    check_problem(await site.client.get("/v1/jobs", headers=twice), 400, "invalid_host")


async def test_a_trusted_network_has_its_own_names(opened: Any) -> None:
    async with opened(trusted_network=True) as site:
        job_id = await site.succeeded()
        answer = await site.client.get(f"/v1/jobs/{job_id}", headers={"Host": "reelq.lan:8000"})
        assert answer.json()["video"]["url"] == f"http://reelq.lan:8000/v1/jobs/{job_id}/video"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
    ],
)
async def test_other_sites_may_look_through_no_form(site: Site, headers: dict[str, str]) -> None:
    for answer in (
        await site.post(headers=headers),
        await site.client.post("/v1/admin/gpus/GPU-0/drain", json={"reason": "a"}, headers=headers),
        await site.client.delete("/v1/jobs/job_x", headers=headers),
    ):
        check_problem(answer, 403, "cross_site")
    assert site.leftovers() == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://127.0.0.1:8000"}],
)
async def test_the_sites_own_pages_and_programs_may(site: Site, headers: dict[str, str]) -> None:
    assert (await site.post(headers=headers)).status_code == 202


async def test_answers_carry_safe_headers(site: Site) -> None:
    for path in ("/healthz", "/v1/jobs", "/nowhere"):
        headers = (await site.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
