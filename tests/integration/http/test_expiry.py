"""Videos that expire: 410 from that moment on, and the job tells of it."""

import pytest
from sqlalchemy import update

from scheduler.store import schema as s
from tests.support.http import Site, check_problem

PARTS = ("video", "thumbnail", "preview")


def pass_by(site: Site, job_id: str) -> None:
    """Let the time of a job's result be over."""
    with site.scheduler.database.write() as conn:
        over = site.scheduler.database.now(conn) - 1
        conn.execute(update(s.results).where(s.results.c.job_id == job_id).values(expires_at=over))


async def test_a_result_says_when_it_expires(opened: object) -> None:
    async with opened(result_days=7) as site:  # type: ignore[operator]
        job_id = await site.succeeded()
        job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
        assert job["video"]["expired"] is False
        assert job["video"]["expires_at"][:10] > job["finished_at"][:10]
        assert (await site.client.get(f"/v1/jobs/{job_id}/video")).status_code == 200


async def test_without_the_setting_it_stays_with_the_job(site: Site) -> None:
    job_id = await site.succeeded()
    video = (await site.client.get(f"/v1/jobs/{job_id}")).json()["video"]
    assert (video["expires_at"], video["expired"]) == (None, False)


@pytest.mark.parametrize("part", PARTS)
async def test_from_that_moment_on_it_is_410(site: Site, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(site.scheduler.blobs, "delete_prefix", lambda _prefix: 0)  # the pruner has not come by
    job_id = await site.succeeded()
    pass_by(site, job_id)
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = await site.client.get(f"/v1/jobs/{job_id}/{part}", headers=headers)
        check_problem(answer, 410, "result_expired", job_id)
    assert (await site.client.head(f"/v1/jobs/{job_id}/{part}")).status_code == 410


async def test_the_job_stays_and_keeps_what_is_known_of_its_video(site: Site) -> None:
    job_id = await site.succeeded()
    before = await site.client.get(f"/v1/jobs/{job_id}")
    pass_by(site, job_id)
    site.scheduler.pruner.run_once()
    after = await site.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200, "its tag has changed"
    video = after.json()["video"]
    assert video["expired"] is True
    assert {**video, "expired": False, "expires_at": None} == before.json()["video"]
    check_problem(await site.client.get(f"/v1/jobs/{job_id}/video"), 410, "result_expired")
    assert (await site.client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    assert site.leftovers() == []


async def test_media_are_kept_by_nobody_else(site: Site) -> None:
    answer = await site.client.get(f"/v1/jobs/{await site.succeeded()}/video")
    assert answer.headers["cache-control"].startswith("private")
