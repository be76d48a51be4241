import base64
import hashlib
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PIL import Image

from scheduler.ids import is_id
from scheduler.params import SEED_MAX
from tests.support.http import Site, check_problem, picture

KEYS = [
    "id", "object", "tenant", "status", "stage", "progress", "model", "prompt", "params", "priority", "metadata",
    "estimate", "queue", "attempts", "max_attempts", "cancel_requested", "deadline", "retry_of", "webhook_url",
    "webhook_events", "result_ttl_seconds", "gpu", "resumed_from_step", "checkpoint_step", "notices", "measured",
    "error", "video", "not_before", "window", "created_at", "started_at", "finished_at",
]  # fmt: skip


def as_data_uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


async def test_a_form_makes_a_queued_job(site: Site) -> None:
    answer = await site.post(num_frames="8", guidance_scale="7.5", metadata='{"shot": "12"}', priority="2")
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert list(job) == KEYS
    assert is_id(job["id"])
    assert (job["object"], job["status"], job["stage"]) == ("job", "queued", None)
    assert job["progress"] == {"fraction": 0.0, "step": 0, "steps": 50}
    assert job["params"]["num_frames"] == 8
    assert job["params"]["guidance_scale"] == 7.5
    assert (job["priority"], job["metadata"]) == (2.0, {"shot": "12"})
    assert job["queue"]["position"] == 1
    assert isinstance(job["queue"]["wait_reason"], str)
    assert all(
        job[key] is None for key in ("gpu", "measured", "error", "video", "not_before", "started_at", "finished_at")
    )


async def test_json_makes_the_same_job(site: Site) -> None:
    body = {"prompt": "a red fox", "image": as_data_uri(picture()), "width": 256, "height": 256, "seed": 7}
    answer = await site.client.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    form = await site.submit(width="256", height="256", seed="7")
    assert answer.json()["params"] == form["params"]
    images = [read_image(site, job_id) for job_id in (answer.json()["id"], form["id"])]
    assert images[0] == images[1]


def read_image(site: Site, job_id: str) -> bytes:
    key = site.stored(job_id).image_key
    return b"".join(site.scheduler.blobs.read(key, 0, site.scheduler.blobs.size(key)))


async def test_what_is_left_out_takes_the_models_defaults_and_a_random_seed(site: Site) -> None:
    first, second = await site.submit(), await site.submit()
    defaults = {
        "width": 512, "height": 512, "num_frames": 16, "num_inference_steps": 50,
        "guidance_scale": 9.0, "target_fps": 16, "negative_prompt": None, "preset": "standard", "allow_int8": False,
    }  # fmt: skip
    seed = first["params"].pop("seed")
    assert first["params"] == defaults
    assert 0 <= seed <= SEED_MAX
    assert seed != second["params"]["seed"]


async def test_the_estimate_is_the_one_the_job_is_queued_with(site: Site) -> None:
    job = await site.submit()
    stored = site.stored(job["id"])
    assert job["estimate"] == {
        "vram_bytes": stored.footprint.vram_bytes,
        "seconds": stored.footprint.seconds,
        "weight": stored.weight,
        "plan": "fp16",
        "plan_reason": "fp16 is the fastest plan, and fits 1 of 1 GPU",
    }


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
async def test_what_changes_pixels_is_the_callers_choice(site: Site, text: str, value: bool) -> None:
    form = await site.submit(preset="fast", allow_int8=text)
    assert (form["params"]["preset"], form["params"]["allow_int8"]) == ("fast", value)
    body = {"prompt": "a red fox", "image": as_data_uri(picture()), "preset": "fast", "allow_int8": value}
    answer = await site.client.post("/v1/jobs", json=body)
    assert {**answer.json()["params"], "seed": 0} == {**form["params"], "seed": 0}


async def test_what_is_to_come_of_it_is_kept(site: Site) -> None:
    deadline = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
    hook = {"webhook_url": "https://example.com/hook?a=b", "webhook_events": ["job.running", "job.failed"]}
    form = await site.submit(
        deadline=deadline,
        result_ttl_seconds="3600",
        webhook_url=hook["webhook_url"],
        webhook_events='["job.running", "job.failed"]',
    )
    body = {"prompt": "a", "image": as_data_uri(picture()), "deadline": deadline, "result_ttl_seconds": 3600, **hook}
    answer = await site.client.post("/v1/jobs", json=body)
    for job in (form, answer.json()):
        assert (job["deadline"], job["webhook_url"]) == (deadline.replace("Z", ".000000Z"), hook["webhook_url"])
        stored = site.stored(job["id"])
        assert stored.deadline_at == datetime.fromisoformat(deadline).timestamp()
        assert stored.webhook_events == ("job.running", "job.failed")
        assert stored.result_ttl_seconds == 3600


async def test_a_webhook_is_told_of_the_end_by_default(site: Site) -> None:
    job = await site.submit(webhook_url="https://example.com/")
    assert site.stored(job["id"]).webhook_events == ("job.succeeded", "job.failed", "job.cancelled")


async def test_the_preset_high_has_more_steps_unless_they_are_given(site: Site) -> None:
    assert (await site.submit(preset="high"))["params"]["num_inference_steps"] == 80
    assert (await site.submit(preset="high", num_inference_steps="10"))["params"]["num_inference_steps"] == 10


async def test_a_large_image_is_stored_packed(site: Site) -> None:
    for kind, suffix in (("WEBP", "png"), ("JPEG", "jpg")):
        job = (await site.post(picture(kind, (1025, 1024)))).json()
        assert site.stored(job["id"]).image_key.endswith(f"/image.{suffix}")
        stored = Image.open(io.BytesIO(read_image(site, job["id"])))
        assert (stored.format, stored.mode, stored.size) == ("PNG" if suffix == "png" else "JPEG", "RGB", (1025, 1024))


async def test_the_worker_sees_an_upright_plain_image(site: Site) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010E] = "where it was taken"
    answer = await site.post(picture("JPEG", (64, 48), exif=exif.tobytes()))
    data = read_image(site, answer.json()["id"])
    stored = Image.open(io.BytesIO(data))
    assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (48, 64))
    assert b"taken" not in data
    assert not stored.getexif()


async def test_the_blob_lies_below_the_job(site: Site) -> None:
    job = await site.submit()
    assert site.stored(job["id"]).image_key == f"jobs/{job['id']}/image.ppm"
    assert list(site.temporary.iterdir()) == []


async def test_the_only_model_may_be_named(site: Site) -> None:
    job = await site.submit(model="ali-vilab/i2vgen-xl")
    assert job["model"] == "ali-vilab/i2vgen-xl"


async def test_an_unknown_model_is_refused_with_those_there_are(site: Site) -> None:
    check_problem(await site.post(model="sora"), 422, "invalid_parameter", "model", "ali-vilab/i2vgen-xl")
    assert site.leftovers() == []


@pytest.mark.parametrize("prompt", ["x" * 4000, "狐狸 🦊", "a\nb\tc"])
async def test_prompts_come_back_as_they_were(site: Site, prompt: str) -> None:
    assert (await site.submit(prompt=prompt))["prompt"] == prompt


async def test_a_large_image_within_the_limits_is_taken(site: Site) -> None:
    noise = hashlib.shake_128(b"seed").digest(900 * 900 * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (900, 900), noise).save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > 2**20  # beyond what a form keeps in memory
    job: Any = (await site.post(file.getvalue())).json()
    assert Image.open(io.BytesIO(read_image(site, job["id"]))).size == (900, 900)
    assert list(site.temporary.iterdir()) == []
