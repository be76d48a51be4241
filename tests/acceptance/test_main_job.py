"""An image and a prompt become a video: over HTTP, by real processes, into a file that a browser plays."""

import hashlib
from collections.abc import Callable
from io import BytesIO

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.service import TINY, Service, picture

pytestmark = pytest.mark.acceptance


def submit(service: Service, file_format: str = "PNG", **params: object) -> str:
    fields = {key: str(value) for key, value in ({"prompt": "a boat"} | TINY | params).items()}
    # The name and the type lie on purpose: only the bytes count.
    files = {"image": ("picture.bin", picture(file_format), "application/octet-stream")}
    response = service.client.post("/v1/jobs", data=fields, files=files)
    assert response.status_code == 202, response.text
    assert response.headers["location"].endswith(f"/v1/jobs/{response.json()['id']}")
    return str(response.json()["id"])


def top_level_boxes(data: bytes) -> list[bytes]:
    boxes, offset = [], 0
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        boxes.append(data[offset + 4 : offset + 8])
        offset += size
    return boxes


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_image_becomes_playable_video(service: Service, file_format: str) -> None:
    job_id = submit(service, file_format, width=128, height=64, num_frames=5, num_inference_steps=2, target_fps=8)
    job = service.wait(job_id)
    assert job["status"] == "succeeded", job
    response = service.client.get(f"/v1/jobs/{job_id}/video")
    assert response.headers["content-type"] == "video/mp4"
    data = response.content
    assert len(data) == job["video"]["bytes"]
    assert hashlib.sha256(data).hexdigest() == job["video"]["sha256"]
    boxes = top_level_boxes(data)
    assert boxes.index(b"moov") < boxes.index(b"mdat"), "a browser could not start before the end"
    with av.open(BytesIO(data)) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 8
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
    assert [frame.shape for frame in frames] == [(64, 128, 3)] * 5
    assert all(np.std(frame) > 2 for frame in frames), "a constant picture is no video"
    assert (job["video"]["num_frames"], job["video"]["fps"], job["video"]["duration_seconds"]) == (5, 8, 0.625)


def test_thumbnail_is_an_image(service: Service) -> None:
    job_id = submit(service)
    service.wait(job_id)
    response = service.client.get(f"/v1/jobs/{job_id}/thumbnail")
    with Image.open(BytesIO(response.content)) as poster:
        assert poster.size == (64, 64)
        assert response.headers["content-type"] == Image.MIME[poster.format or ""]


def test_same_seed_gives_same_bytes_and_another_does_not(service: Service) -> None:
    jobs = [service.wait(submit(service, seed=seed)) for seed in (11, 11, 12)]
    first, again, other = (job["video"]["sha256"] for job in jobs)
    assert first == again
    assert first != other


def test_job_tells_what_was_predicted_and_measured(service: Service) -> None:
    job = service.wait(submit(service))
    assert job["estimate"]["plan"] == "fp32"
    assert 0 < job["measured"]["vram_peak_bytes"] <= job["estimate"]["vram_bytes"]
    assert job["measured"]["run_seconds"] > 0
    assert job["gpu"] == service.gpu()["id"]
    assert "noise" in job["model"], "the tiny model says that its output is noise"
    assert (job["attempts"], job["error"], job["queue"], job["stage"]) == (1, None, None, None)
    assert job["progress"] == {"fraction": 1.0, "step": 1, "steps": 1}


def test_long_poll_follows_a_job_through_its_stages(service: Service) -> None:
    job_id = submit(service, num_inference_steps=60, num_frames=16)
    seen: list[dict[str, object]] = []
    etag = ""
    while not seen or seen[-1]["status"] not in ("succeeded", "failed"):
        answer = service.client.get(f"/v1/jobs/{job_id}", params={"wait": 30}, headers={"If-None-Match": etag})
        assert answer.status_code == 200, answer.text
        etag = answer.headers["etag"]
        seen.append(answer.json())
    fractions = [job["progress"]["fraction"] for job in seen]  # type: ignore[index]
    assert fractions == sorted(fractions)
    assert seen[-1]["status"] == "succeeded"
    steps = {job["progress"]["step"] for job in seen if job["stage"] == "denoising"}  # type: ignore[index]
    assert len(steps) >= 2, f"progress within denoising was seen: {steps}"


def test_range_request_serves_a_part(service: Service) -> None:
    job_id = submit(service)
    service.wait(job_id)
    whole = service.client.get(f"/v1/jobs/{job_id}/video").content
    part = service.client.get(f"/v1/jobs/{job_id}/video", headers={"Range": "bytes=4-11"})
    assert (part.status_code, part.content) == (206, whole[4:12])
    assert part.headers["content-range"] == f"bytes 4-11/{len(whole)}"


def test_job_starts_at_once_on_an_idle_service(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    waits = []
    for _ in range(15):
        job = service.wait(submit(service))
        waits.append(job["measured"]["queue_seconds"])
    median_ms = sorted(waits)[len(waits) // 2] * 1000
    record_property("figure", f"submit to running on an idle service: median {median_ms:.1f} ms of {len(waits)}")
    assert median_ms < 400, "slower than a poll: the wake-up was lost"


def test_too_large_job_is_refused_with_the_sizes(service: Service) -> None:
    before = service.client.get("/v1/jobs").json()["data"]
    params = TINY | {"width": 2048, "height": 2048, "num_frames": 64}
    fields = {key: str(value) for key, value in ({"prompt": "x"} | params).items()}
    files = {"image": ("i.png", picture(), "image/png")}
    refused = service.client.post("/v1/jobs", data=fields, files=files)
    assert (refused.status_code, refused.json()["code"]) == (422, "unschedulable")
    assert refused.json()["detail"].count("GiB") >= 3, "the sizes are named"
    assert service.client.get("/v1/jobs").json()["data"] == before


def test_unknown_job_is_404_and_never_looks_finished(service: Service) -> None:
    for job_id in ("job_00000000000000000000000000", "nonsense", "..%2f..%2fetc%2fpasswd"):
        for path in ("", "/video", "/thumbnail"):
            answer: httpx.Response = service.client.get(f"/v1/jobs/{job_id}{path}")
            assert answer.status_code == 404, answer.text
