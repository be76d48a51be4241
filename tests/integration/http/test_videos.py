"""OpenAI's Videos format, request by request; `test_openai_client.py` shows it with the client."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from scheduler.states import Directive, JobStatus
from tests.support.fleet import ERROR, HALF_WAY
from tests.support.http import VIDEO, Site, check_problem, picture, until

KEYS = [
    "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "error", "prompt",
    "remixed_from_video_id", "seconds", "size",
]  # fmt: skip
UNKNOWN = "job_00000000000000000000000000"


async def post(site: Site, files: Any = None, **fields: Any) -> httpx.Response:
    """POST a form: by default a good image and a prompt."""
    files = {"input_reference": ("upload", picture())} if files is None else files
    parts = [(name, (None, value)) for name, value in ({"prompt": "a red fox"} | fields).items()]
    return await site.client.post("/v1/videos", files=[*parts, *files.items()])


async def create(site: Site, **fields: Any) -> dict[str, Any]:
    """Make a video that must be taken, and return it."""
    answer = await post(site, **fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def page(site: Site, **query: Any) -> dict[str, Any]:
    answer = await site.client.get("/v1/videos", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


async def test_a_video_is_a_job_under_other_names(site: Site) -> None:
    video = await create(site, size="512x320", seconds="2", seed="7", num_inference_steps="9")
    assert list(video) == KEYS
    assert (video["object"], video["status"], video["progress"], video["error"]) == ("video", "queued", 0, None)
    assert (video["seconds"], video["size"], video["prompt"]) == ("2", "512x320", "a red fox")
    job = (await site.client.get(f"/v1/jobs/{video['id']}")).json()
    assert job["params"]["num_frames"] == 32
    assert (job["params"]["width"], job["params"]["height"], job["params"]["target_fps"]) == (512, 320, 16)
    assert (job["params"]["seed"], job["params"]["num_inference_steps"], job["model"]) == (7, 9, video["model"])


async def test_without_seconds_and_size_the_models_defaults_hold(site: Site) -> None:
    video = await create(site)
    assert (video["seconds"], video["size"]) == ("1", "512x512")


@pytest.mark.parametrize("reference", [{"image_url": data_uri(picture())}, data_uri(picture())])
async def test_json_makes_the_same_video(site: Site, reference: Any) -> None:
    body = {"prompt": "a red fox", "input_reference": reference, "seconds": "1", "metadata": {"shot": "12"}}
    answer = await site.client.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    assert site.stored(answer.json()["id"]).metadata == {"shot": "12"}


async def test_a_form_has_objects_in_brackets(site: Site) -> None:
    video = await create(
        site, files={}, **{"input_reference[image_url]": data_uri(picture()), "metadata[shot]": "12", "metadata[x]": ""}
    )
    assert site.stored(video["id"]).metadata == {"shot": "12", "x": ""}


@pytest.mark.parametrize("as_json", [False, True])
async def test_without_an_image_the_answer_says_what_the_model_does(site: Site, as_json: bool) -> None:
    if as_json:
        answer = await site.client.post("/v1/videos", json={"prompt": "a red fox"})
    else:
        answer = await post(site, files={})
    body = check_problem(answer, 400, "missing_image", "input_reference", "I2VGen-XL turns an image into a video")
    assert body["errors"][0]["field"] == "input_reference"
    assert site.leftovers() == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"size": "512"}, "size"),
        ({"size": "513x512"}, "size"),
        ({"width": "513"}, "width"),
        ({"seconds": "100"}, "seconds"),
        ({"seconds": "1", "num_frames": "16"}, "seconds"),
        ({"model": "sora-2"}, "model"),
        ({"n": "2"}, "n"),
        ({"num_frames": "many"}, "num_frames"),
        ({"metadata[a]": "b", "metadata": "{}"}, "metadata"),
        ({"input_reference[image_url]": "data:,"}, "input_reference"),
        ({"image": "x"}, "image"),
    ],
)
async def test_bad_fields_are_named_and_leave_nothing(site: Site, fields: dict[str, str], field: str) -> None:
    body = check_problem(await post(site, **fields), 422, "invalid_parameter")
    assert body["errors"][0]["field"] == field
    assert site.leftovers() == []


@pytest.mark.parametrize("reference", [{"file_id": "file_1"}, {"image_url": 1}, {}, 1, ["x"]])
async def test_bad_references_are_refused(site: Site, reference: Any) -> None:
    answer = await site.client.post("/v1/videos", json={"prompt": "p", "input_reference": reference})
    check_problem(answer, 422, "invalid_parameter", "input_reference", "image_url")


async def test_an_image_that_is_none_is_refused_as_elsewhere(site: Site) -> None:
    body = check_problem(await post(site, files={"input_reference": ("x", b"<svg/>")}), 415, "not_an_image")
    assert (body["errors"][0]["field"], body["error"]["param"]) == ("input_reference", "input_reference")
    assert body["detail"].startswith("input_reference must be one of PNG")
    assert site.leftovers() == []


async def test_a_url_that_is_not_allowed_is_told_of_the_field_it_came_in(site: Site) -> None:
    answer = await site.client.post("/v1/videos", json={"prompt": "p", "input_reference": "https://127.0.0.1/"})
    body = check_problem(answer, 422, "url_not_allowed", "input_reference must")
    assert body["errors"] == [{"field": "input_reference", "message": body["detail"]}]


async def test_a_size_is_refused_in_its_own_words(site: Site) -> None:
    body = check_problem(await post(site, size="512x100"), 422, "invalid_parameter")
    assert body["detail"] == body["error"]["message"] == "size has a height that must be from 256 to 1536, not 100"


async def test_a_body_that_is_too_large_is_told_of_the_same_field(opened: Any) -> None:
    async with opened(max_image_bytes=1000) as site:
        body = check_problem(await post(site, files={"input_reference": ("x", b"x" * 200_000)}), 413, "image_too_large")
        assert (body["error"]["param"], body["limit"]) == ("input_reference", 1000)


async def test_an_idempotency_key_makes_one_video(site: Site) -> None:
    body, headers = {"prompt": "p", "input_reference": data_uri(picture())}, {"Idempotency-Key": "k"}
    first, second = [await site.client.post("/v1/videos", json=body, headers=headers) for _ in range(2)]
    assert first.json()["id"] == second.json()["id"]
    assert ("idempotent-replayed" in first.headers, second.headers["idempotent-replayed"]) == (False, "true")


async def test_answers_say_when_to_look_again(site: Site) -> None:
    video = await create(site)
    for answer in (await post(site), await site.client.get(f"/v1/videos/{video['id']}")):
        assert 250 <= int(answer.headers["openai-poll-after-ms"]) <= 5000


async def test_a_jobs_way_to_its_end(site: Site) -> None:
    url = f"/v1/videos/{(await create(site))['id']}"
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    running = (await site.client.get(url)).json()
    assert (running["status"], running["progress"], running["completed_at"]) == ("in_progress", 50, None)
    site.finish(lease)
    done = (await site.client.get(url)).json()
    assert (done["status"], done["progress"]) == ("completed", 100)
    assert done["completed_at"] >= done["created_at"]


async def test_a_failed_job_says_why(site: Site) -> None:
    video = await create(site)
    site.scheduler.leases.fail(site.gpu.must_claim(), ERROR)
    found = (await site.client.get(f"/v1/videos/{video['id']}")).json()
    assert (found["status"], found["error"]) == ("failed", {"code": ERROR.code, "message": ERROR.message})


async def test_a_cancelled_job_is_failed(site: Site) -> None:
    video = await create(site)
    await site.client.post(f"/v1/jobs/{video['id']}/cancel")
    found = (await site.client.get(f"/v1/videos/{video['id']}")).json()
    assert (found["status"], found["error"]["code"]) == ("failed", "cancelled")


async def test_an_empty_list(site: Site) -> None:
    assert await page(site) == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_are_complete_and_in_order(site: Site, order: str) -> None:
    ids = [(await site.submit())["id"] for _ in range(5)]  # jobs are videos
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        found = await page(site, limit=2, order=order, **after)
        assert (found["first_id"], found["last_id"]) == (found["data"][0]["id"], found["data"][-1]["id"])
        seen += [video["id"] for video in found["data"]]
        if not found["has_more"]:
            break
        after = {"after": found["last_id"]}
    assert seen == sorted(ids, reverse=order == "desc")


async def test_bad_queries_are_refused(site: Site) -> None:
    for query, word in (("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=x", "after")):
        check_problem(await site.client.get(f"/v1/videos?{query}"), 422, "invalid_parameter", word)


async def test_the_content_is_the_video_or_the_thumbnail(site: Site) -> None:
    url = f"/v1/videos/{await site.succeeded()}/content"
    video = await site.client.get(url, headers={"Accept": "application/binary"})
    assert (video.status_code, video.content, video.headers["content-type"]) == (200, VIDEO, "video/mp4")
    thumbnail = await site.client.get(url, params={"variant": "thumbnail"})
    assert (thumbnail.content, thumbnail.headers["content-type"]) == (picture("JPEG"), "image/jpeg")
    part = await site.client.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, VIDEO[10:20])
    head = await site.client.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(VIDEO)))


async def test_content_that_is_not_there(site: Site) -> None:
    url = f"/v1/videos/{(await create(site))['id']}/content"
    check_problem(await site.client.get(url), 404, "video_not_ready")
    check_problem(await site.client.get(url, params={"variant": "spritesheet"}), 400, "not_supported", "spritesheets")
    check_problem(await site.client.get(url, params={"variant": "x"}), 422, "invalid_parameter", "variant")


@pytest.mark.parametrize("ended", [False, True])
async def test_a_deleted_video_is_gone_with_its_files(site: Site, ended: bool) -> None:
    video_id = await site.succeeded() if ended else (await create(site))["id"]
    answer = await site.client.delete(f"/v1/videos/{video_id}")
    assert answer.json() == {"id": video_id, "object": "video.deleted", "deleted": True}
    check_problem(await site.client.get(f"/v1/videos/{video_id}"), 404, "not_found", video_id)
    assert site.leftovers() == []


async def test_a_running_job_is_stopped_before_it_is_deleted(site: Site) -> None:
    video_id = (await create(site))["id"]
    lease = site.gpu.must_claim()
    deleting = asyncio.create_task(site.client.delete(f"/v1/videos/{video_id}"))
    await until(lambda: site.stored(video_id).cancel_requested and site.hub.waiting)
    assert site.scheduler.leases.report(lease, HALF_WAY) is Directive.CANCEL
    site.scheduler.leases.cancelled(lease)
    assert (await deleting).json()["deleted"] is True
    assert site.leftovers() == []


async def test_one_that_does_not_stop_in_time_may_be_deleted_later(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.routes.videos._DELETE_SECONDS", 0.01)
    video_id = (await create(site))["id"]
    site.gpu.must_claim()
    answer = await site.client.delete(f"/v1/videos/{video_id}")
    check_problem(answer, 409, "invalid_state", video_id, "not stopped yet")
    assert int(answer.headers["retry-after"]) >= 1
    job = site.stored(video_id)
    assert (job.status, job.cancel_requested) == (JobStatus.RUNNING, True)


@pytest.mark.parametrize("video_id", [UNKNOWN, "x", "video_123", "edits"])
async def test_unknown_videos(site: Site, video_id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        answer = await site.client.request(method, f"/v1/videos/{video_id}{path}")
        check_problem(answer, 404, "not_found", video_id)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"/{UNKNOWN}/remix"), ("POST", "/edits"), ("POST", "/extensions"), ("POST", "/characters"),
     ("GET", "/characters/char_1")],
)  # fmt: skip
async def test_what_this_service_does_not_do_it_says(site: Site, method: str, path: str) -> None:
    answer = await site.client.request(method, f"/v1/videos{path}")
    check_problem(answer, 400, "not_supported", f"/v1/videos{path}", "makes videos from images only")


async def test_the_format_is_documented(site: Site) -> None:
    paths = (await site.client.get("/openapi.json")).json()["paths"]
    content = paths["/v1/videos"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    for one in content.values():
        assert {"prompt", "seconds", "size", "input_reference", "num_frames"} <= set(one["schema"]["properties"])
    assert "$ref" not in json.dumps(content)
    assert "/v1/videos/{video_id}/remix" not in paths
