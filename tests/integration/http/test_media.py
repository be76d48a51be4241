import io
from typing import Any

import pytest
from PIL import Image

from tests.support.http import SHA256, VIDEO, Site, check_problem, picture

ETAG = f'"{SHA256}"'


async def get(site: Site, job_id: str, **headers: str) -> Any:
    return await site.client.get(f"/v1/jobs/{job_id}/video", headers=headers)


async def test_the_whole_video(site: Site) -> None:
    job_id = await site.succeeded()
    answer = await get(site, job_id)
    assert (answer.status_code, answer.content) == (200, VIDEO)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(VIDEO))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == ETAG
    assert answer.headers["content-disposition"] == f'inline; filename="{job_id}.mp4"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "media-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-10", -10, None), ("bytes=10200-999999", 10200, None)],
)
async def test_a_range(site: Site, asked: str, start: int, end: int | None) -> None:
    answer = await get(site, await site.succeeded(), Range=asked)
    part = VIDEO[start:end]
    first = len(VIDEO) + start if start < 0 else start
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(VIDEO)}"
    assert answer.headers["content-length"] == str(len(part))


async def test_a_range_behind_the_end_is_416(site: Site) -> None:
    answer = await get(site, await site.succeeded(), Range="bytes=10240-")
    check_problem(answer, 416, "range_not_satisfiable", "10240 bytes")
    assert answer.headers["content-range"] == "bytes */10240"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "items=0-1", "bytes=b-a", "bytes=9-1", ""])
async def test_other_ranges_are_ignored(site: Site, asked: str) -> None:
    answer = await get(site, await site.succeeded(), Range=asked)
    assert (answer.status_code, answer.content) == (200, VIDEO)


async def test_if_range_guards_a_range(site: Site) -> None:
    job_id = await site.succeeded()
    same = await get(site, job_id, Range="bytes=0-9", **{"If-Range": ETAG})
    assert same.status_code == 206
    for other in ('"other"', f"W/{ETAG}", "Sat, 21 Nov 2026 00:00:00 GMT"):
        whole = await get(site, job_id, Range="bytes=0-9", **{"If-Range": other})
        assert (whole.status_code, whole.content) == (200, VIDEO)


async def test_a_known_video_is_304(site: Site) -> None:
    answer = await get(site, await site.succeeded(), **{"If-None-Match": ETAG})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == ETAG


async def test_head_has_the_headers_alone(site: Site) -> None:
    job_id = await site.succeeded()
    answer = await site.client.head(f"/v1/jobs/{job_id}/video", headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(VIDEO))


async def test_the_thumbnail(site: Site) -> None:
    job_id = await site.succeeded()
    answer = await site.client.get(f"/v1/jobs/{job_id}/thumbnail")
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"] == f'inline; filename="{job_id}.jpg"'
    assert answer.headers["etag"] != ETAG


async def test_the_preview(site: Site) -> None:
    job = (await site.client.get(f"/v1/jobs/{await site.succeeded()}")).json()
    answer = await site.client.get(job["video"]["preview_url"])
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-disposition"] == f'inline; filename="{job["id"]}.webp"'
    assert answer.headers["etag"] == f'"{SHA256}-preview"'
    head = await site.client.head(job["video"]["preview_url"])
    assert (head.content, int(head.headers["content-length"])) == (b"", len(answer.content))


async def test_a_video_of_an_older_version_has_no_preview(site: Site) -> None:
    job_id = (await site.submit())["id"]
    site.finish(site.gpu.must_claim(), with_preview=False)
    assert (await site.client.get(f"/v1/jobs/{job_id}")).json()["video"]["preview_url"] is None
    check_problem(await site.client.get(f"/v1/jobs/{job_id}/preview"), 404, "no_preview", job_id)


async def test_before_the_end_there_is_no_video(site: Site) -> None:
    job_id = (await site.submit())["id"]
    for name in ("video", "thumbnail", "preview"):
        check_problem(await site.client.get(f"/v1/jobs/{job_id}/{name}"), 404, "video_not_ready", "queued")
    await site.client.post(f"/v1/jobs/{job_id}/cancel")
    check_problem(await get(site, job_id), 404, "no_video", "cancelled")


async def test_a_video_whose_file_is_gone_is_410(site: Site) -> None:
    job_id = await site.succeeded()
    site.scheduler.blobs.delete_prefix(f"jobs/{job_id}")
    check_problem(await get(site, job_id), 410, "result_expired", job_id)


async def submitted(site: Site, data: bytes) -> str:
    answer = await site.post(image=data)
    return str(answer.json()["id"])


async def image(site: Site, job_id: str, **headers: str) -> Any:
    return await site.client.get(f"/v1/jobs/{job_id}/image", headers=headers)


@pytest.mark.parametrize(
    ("given", "size", "kind", "suffix"),
    [
        ("PNG", (40, 30), "image/png", "png"),  # stored as raw pixels
        ("WEBP", (40, 30), "image/png", "png"),
        ("PNG", (1100, 1000), "image/png", "png"),
        ("JPEG", (40, 30), "image/jpeg", "jpg"),
    ],
)
async def test_the_input_image_is_what_a_worker_sees(
    site: Site, given: str, size: tuple[int, int], kind: str, suffix: str
) -> None:
    job_id = await submitted(site, picture(given, size=size))
    answer = await image(site, job_id)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["content-disposition"] == f'inline; filename="{job_id}.{suffix}"'
    job, blobs = site.stored(job_id), site.scheduler.blobs
    stored = b"".join(blobs.read(job.image_key, 0, blobs.size(job.image_key)))
    shown, seen = (Image.open(io.BytesIO(data)) for data in (answer.content, stored))
    assert (shown.format, shown.mode, shown.size) == (kind.removeprefix("image/").upper(), "RGB", size)
    assert shown.tobytes() == seen.tobytes()


async def test_an_image_of_raw_pixels_is_sent_in_parts_and_once_only(site: Site) -> None:
    job_id = await submitted(site, picture())
    whole = await image(site, job_id)
    part = await image(site, job_id, Range="bytes=8-15")
    assert (part.status_code, part.content) == (206, whole.content[8:16])
    assert part.headers["content-range"] == f"bytes 8-15/{len(whole.content)}"
    known = await image(site, job_id, **{"If-None-Match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = await site.client.head(f"/v1/jobs/{job_id}/image")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content)))


async def test_an_image_that_is_gone_is_410_and_one_of_an_unknown_job_404(site: Site) -> None:
    job_id = await submitted(site, picture())
    site.scheduler.blobs.delete_prefix(f"jobs/{job_id}")
    check_problem(await image(site, job_id), 410, "result_expired", job_id)
    check_problem(await image(site, "job_1"), 404, "not_found", "job_1")
