import errno
import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from scheduler.errors import StorageFull, StoreUnreachable
from tests.support.http import Site, check_problem, http_scope, picture


async def test_unknown_routes_and_methods(site: Site) -> None:
    check_problem(await site.client.get("/v2/jobs"), 404, "not_found", "GET /v2/jobs")
    answer = await site.client.put("/v1/jobs")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"
    answer = await site.client.put("/v1/jobs/cancel")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"  # not those of a job whose id is `cancel`


async def test_the_documentation_pages_of_other_sites_are_off(site: Site) -> None:
    for path in ("/docs", "/redoc"):
        check_problem(await site.client.get(path), 404, "not_found")


async def test_a_bug_is_a_500_that_tells_nothing_but_its_id(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(site.scheduler.fleet, "gpus", broken)
    with caplog.at_level(logging.INFO):
        answer = await site.client.get("/v1/admin/gpus", headers={"X-Request-Id": "mine-1"})
    check_problem(answer, 500, "internal_error", "mine-1")
    assert "42" not in answer.text
    assert answer.headers["x-request-id"] == "mine-1"
    logged = capsys.readouterr().out + caplog.text
    assert "the secret is 42" in logged
    assert "mine-1" in logged


async def test_a_client_that_leaves_while_uploading_leaves_nothing(site: Site) -> None:
    sent: list[Any] = []
    start = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + b"x" * 2_000_000
    messages = iter([{"type": "http.request", "body": start, "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope("POST", "/v1/jobs", content_type="multipart/form-data; boundary=b")
    await site.app(scope, receive, send)
    assert sent == []
    assert site.leftovers() == []


async def test_request_ids_are_made_or_taken_over_if_safe(site: Site) -> None:
    first, second = await site.client.get("/healthz"), await site.client.get("/healthz")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    for given, kept in (("abc.DEF-1_2", True), ("x" * 65, False), ("a b", False), ("<script>", False)):
        answer = await site.client.get("/healthz", headers={"X-Request-Id": given})
        assert (answer.headers["x-request-id"] == given) is kept


async def test_a_store_that_is_away_is_503(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_args: object, **_kwargs: object) -> None:
        raise StoreUnreachable('the database cannot be used: connection to "10.0.0.7", user "reelq" refused')

    monkeypatch.setattr(site.scheduler.queue, "find_jobs", away)
    with capture_logs() as logged:
        answer = await site.client.get("/v1/jobs")
    check_problem(answer, 503, "store_unreachable", "the database or the blob store cannot be used")
    assert not {word for word in ("10.0.0.7", "user", "refused") if word in answer.text}
    assert any("10.0.0.7" in str(one.get("problem")) for one in logged), "the operator finds it in the log"
    assert int(answer.headers["retry-after"]) >= 1


async def test_too_little_free_space_is_507(opened: Any) -> None:
    async with opened(min_free_disk_bytes=2**60) as site:
        check_problem(await site.post(), 507, "storage_full", str(2**60))
        assert site.leftovers() == []


async def test_a_blob_store_that_fills_up_is_507(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    image = picture()
    monkeypatch.setattr("app.images.Image.Image.save", full)
    check_problem(await site.post(image), 507, "storage_full", "no room left")
    assert site.leftovers() == []


async def test_a_full_temporary_folder_is_507(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.forms.SpooledTemporaryFile.write", full)
    check_problem(await site.post(), 507, "storage_full", "temporary files")
    assert site.leftovers() == []


async def test_a_full_database_is_507_and_the_image_goes_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise StorageFull("the database has no room left")

    monkeypatch.setattr(site.scheduler.queue, "submit", full)
    check_problem(await site.post(), 507, "storage_full", "database")
    assert site.leftovers() == []


async def test_the_image_stays_where_nobody_knows_whether_the_job_was_committed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = site.scheduler.queue.submit

    def cut_off(new: Any) -> None:
        real(new)
        raise StoreUnreachable("the connection broke at commit")

    monkeypatch.setattr(site.scheduler.queue, "submit", cut_off)
    check_problem(await site.post(), 503, "store_unreachable")
    (job,) = site.scheduler.queue.list_jobs()
    assert site.scheduler.blobs.size(job.image_key) > 0


async def test_a_job_whose_files_cannot_go_stays_deletable(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await site.succeeded()

    def away(prefix: str) -> None:
        raise StoreUnreachable("the blob store cannot be used")

    with monkeypatch.context() as patch:
        patch.setattr(site.scheduler.blobs, "delete_prefix", away)
        check_problem(await site.client.delete(f"/v1/jobs/{job_id}"), 503, "store_unreachable")
    assert (await site.client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    assert site.leftovers() == []
