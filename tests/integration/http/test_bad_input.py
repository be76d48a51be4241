"""Every refusal names the field and the limit, and leaves nothing behind."""

import base64
import io
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.http import Site, check_problem, picture

PNG = picture()


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


def huge_header() -> bytes:
    """A PNG of a few bytes that says it is 60,000 pixels on each side."""
    data = bytearray(picture("PNG", (16, 16), "L"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


IMAGES: list[tuple[str, bytes, int, str, tuple[str, ...]]] = [
    ("empty", b"", 415, "not_an_image", ("image",)),
    ("text", b"GIF? no, just text", 415, "not_an_image", ("PNG", "JPEG", "WEBP")),
    ("svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>", 415, "not_an_image", ("image",)),
    ("gif", picture("GIF"), 415, "not_an_image", ("image",)),
    ("bmp", picture("BMP"), 415, "not_an_image", ("image",)),
    ("tiff", picture("TIFF"), 415, "not_an_image", ("image",)),
    ("truncated png", PNG[: len(PNG) // 2], 422, "corrupt_image", ("image",)),
    ("truncated jpeg", picture("JPEG", (200, 200))[:-200], 422, "corrupt_image", ("truncated",)),
    ("truncated webp", picture("WEBP", (200, 200))[:-50], 422, "corrupt_image", ("image",)),
    ("png signature only", PNG[:12], 422, "corrupt_image", ("image",)),
    ("animated png", animation("PNG"), 422, "animated_image", ("still",)),
    ("animated webp", animation("WEBP"), 422, "animated_image", ("still",)),
    ("too small", picture(size=(15, 64)), 422, "image_too_small", ("16", "15x64")),
    ("one pixel", picture(size=(1, 1)), 422, "image_too_small", ("16",)),
    ("too many pixels", picture(size=(300, 301), mode="L"), 413, "too_many_pixels", ("90000",)),
    ("bomb", huge_header(), 413, "too_many_pixels", ("90000",)),
]

FIELDS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("prompt", {"prompt": ""}, ("empty",)),
    ("prompt", {"prompt": "  \n"}, ("empty",)),
    ("prompt", {"prompt": "x" * 4001}, ("4000", "4001")),
    ("prompt", {"prompt": "nul \x00"}, ("NUL",)),
    ("negative_prompt", {"negative_prompt": "x" * 4001}, ("4000",)),
    ("preset", {"preset": "turbo"}, ("standard", "fast", "'turbo'")),
    ("preset", {"preset": ""}, ("standard", "fast")),
    ("allow_int8", {"allow_int8": "yes"}, ("true or false", "'yes'")),
    ("allow_int8", {"allow_int8": "True"}, ("true or false",)),
    ("allow_int8", {"allow_int8": ""}, ("true or false",)),
    ("width", {"width": "248"}, ("256", "1536")),
    ("width", {"width": "513"}, ("divisible by 8",)),
    ("width", {"width": "1544"}, ("1536",)),
    ("height", {"height": "-512"}, ("256",)),
    ("height", {"height": "512.0"}, ("integer",)),
    ("height", {"height": ""}, ("integer",)),
    ("num_frames", {"num_frames": "1"}, ("2", "64")),
    ("num_frames", {"num_frames": "1.5"}, ("integer",)),
    ("num_frames", {"num_frames": "١٦"}, ("integer",)),
    ("num_inference_steps", {"num_inference_steps": "0"}, ("1", "200")),
    ("num_inference_steps", {"num_inference_steps": "1_0"}, ("integer",)),
    ("guidance_scale", {"guidance_scale": "nan"}, ("finite",)),
    ("guidance_scale", {"guidance_scale": "inf"}, ("finite",)),
    ("guidance_scale", {"guidance_scale": "1e999"}, ("finite",)),
    ("guidance_scale", {"guidance_scale": "51"}, ("0", "50")),
    ("target_fps", {"target_fps": "61"}, ("1", "60")),
    ("seed", {"seed": "-1"}, ("0",)),
    ("seed", {"seed": "4294967296"}, ("4294967295",)),
    ("seed", {"seed": "9" * 40}, ("4294967295",)),
    ("width", {"width": "9" * 40}, ("9007199254740991",)),
    ("priority", {"priority": "0"}, ("0.01", "100")),
    ("priority", {"priority": "101"}, ("100",)),
    ("priority", {"priority": "-nan"}, ("finite",)),
    ("metadata", {"metadata": "[1]"}, ("JSON object",)),
    ("metadata", {"metadata": '{"a": 1}'}, ("JSON object of strings",)),
    ("metadata", {"metadata": "{"}, ("JSON object",)),
    ("metadata", {"metadata": '{"a": "' + "x" * 513 + '"}'}, ("512",)),
    ("metadata", {"metadata": "{" + ",".join(f'"k{i}": ""' for i in range(17)) + "}"}, ("16", "17")),
    ("frames", {"frames": "16"}, ("not a known field",)),
    ("deadline", {"deadline": "tomorrow"}, ("RFC 3339",)),
    ("deadline", {"deadline": "2020-01-01T00:00:00Z"}, ("in the future",)),
    ("deadline", {"deadline": "2199-01-01T00:00:00Z"}, ("30 days",)),
    ("deadline", {"deadline": "0001-01-01T00:00:00+23:59"}, ()),
    ("result_ttl_seconds", {"result_ttl_seconds": "59"}, ("60", "7776000")),
    ("result_ttl_seconds", {"result_ttl_seconds": "1e9"}, ("7776000",)),
    ("webhook_events", {"webhook_events": '["job.failed"]'}, ("webhook_url",)),
    ("webhook_events", {"webhook_events": "job.failed"}, ("JSON list",)),
    ("webhook_events", {"webhook_events": "[]", "webhook_url": "https://a.example/"}, ("job.succeeded",)),
    ("webhook_events", {"webhook_events": '["job.queued"]', "webhook_url": "https://a.example/"}, ("job.succeeded",)),
    ("prompt", {"prompt": ["one", "two"]}, ("only once",)),
]


@pytest.mark.parametrize(("data", "status", "code", "words"), [row[1:] for row in IMAGES], ids=[r[0] for r in IMAGES])
async def test_bad_images(opened: Any, data: bytes, status: int, code: str, words: tuple[str, ...]) -> None:
    async with opened(max_image_pixels=90_000) as site:
        body = check_problem(await site.post(data), status, code, "image", *words)
        assert body["errors"][0]["field"] == "image"
        assert site.leftovers() == []


async def test_bad_fields(site: Site) -> None:
    for field, form, words in FIELDS:
        body = check_problem(await site.post(**form), 422, "invalid_parameter", field, *words)
        assert body["errors"][0]["field"] == field, body
    assert site.leftovers() == []


async def test_another_scheme_is_named(site: Site) -> None:
    check_problem(
        await site.post(webhook_url="ftp://x/"), 422, "url_not_allowed", "must begin with https://, not ftp://"
    )


async def test_what_is_no_integer_is_shown(site: Site) -> None:
    answer = await site.client.post("/v1/jobs", json={"prompt": "a", "image": "a", "width": "abc", "seed": [1]})
    check_problem(
        answer, 422, "invalid_parameter", "width must be an integer, not 'abc'", "seed must be an integer, not a list"
    )


@pytest.mark.parametrize("url", ["http://a.example/", "https://127.0.0.1/", "https://u@a.example/", "hook", ""])
async def test_webhooks_lead_outside(site: Site, url: str) -> None:
    body = check_problem(await site.post(webhook_url=url), 422, "url_not_allowed", "webhook_url")
    assert body["errors"][0]["field"] == "webhook_url"
    assert site.leftovers() == []


async def test_text_must_be_utf8(site: Site) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    body = head % b"prompt" + "renard pr\u00e9".encode("latin-1") + b"\r\n--b--"
    check_problem(await site.client.post("/v1/jobs", content=body, headers=headers), 422, "invalid_parameter", "UTF-8")
    body = head % "pr\u00e9".encode("latin-1") + b"a\r\n--b--"
    check_problem(await site.client.post("/v1/jobs", content=body, headers=headers), 400, "malformed_request", "UTF-8")
    assert site.leftovers() == []


async def test_all_wrong_fields_are_named_at_once(site: Site) -> None:
    answer = await site.client.post("/v1/jobs", json={"image": 7, "width": "512", "steps": 1})
    body = check_problem(answer, 422, "invalid_parameter")
    assert {error["field"] for error in body["errors"]} == {"image", "width", "steps", "prompt"}


async def test_json_numbers_must_be_numbers(site: Site) -> None:
    good = {"prompt": "a", "image": "data:image/png;base64," + base64.b64encode(PNG).decode()}
    for field, value in (
        ("width", "512"), ("width", 512.5), ("seed", True), ("guidance_scale", "9"), ("width", 10**30),
        ("prompt", 7), ("metadata", {"a": 1}), ("metadata", []), ("priority", None),
    ):  # fmt: skip
        body = check_problem(await site.client.post("/v1/jobs", json=good | {field: value}), 422, "invalid_parameter")
        assert body["errors"][0]["field"].startswith(field), body
    assert site.leftovers() == []


@pytest.mark.parametrize("source", ["file:///etc/passwd", "ftp://example.com/a.png", "gopher://a/", "a.png", ""])
async def test_other_sources_of_an_image_are_refused(site: Site, source: str) -> None:
    answer = await site.client.post("/v1/jobs", json={"prompt": "a", "image": source})
    check_problem(answer, 422, "unsupported_image_source", "image", "data URI")


async def test_broken_base64_is_a_corrupt_image(site: Site) -> None:
    answer = await site.client.post("/v1/jobs", json={"prompt": "a", "image": "data:image/png;base64,@@@"})
    check_problem(answer, 422, "corrupt_image", "image", "base64")


async def test_the_image_must_be_one_file(site: Site) -> None:
    missing = await site.client.post("/v1/jobs", data={"prompt": "a"}, files={"other": ("a.png", PNG)})
    check_problem(missing, 422, "invalid_parameter", "other")
    text = await site.client.post("/v1/jobs", data={"prompt": "a", "image": "x"}, files={"image": (None, b"x")})
    check_problem(text, 422, "invalid_parameter", "image")
    twice = await site.client.post(
        "/v1/jobs", data={"prompt": "a"}, files=[("image", ("a", PNG)), ("image", ("b", PNG))]
    )
    check_problem(twice, 422, "invalid_parameter", "image must be given only once")
    prompt = await site.client.post("/v1/jobs", files={"prompt": ("a.txt", b"text")})
    check_problem(prompt, 422, "invalid_parameter", "prompt")
    assert site.leftovers() == []


async def test_an_image_above_the_byte_limit_is_413(opened: Any) -> None:
    async with opened(max_image_bytes=1000) as site:
        body = check_problem(await site.post(b"x" * 1001), 413, "image_too_large", "image", "1000 bytes")
        assert body["limit"] == 1000
        uri = "data:image/png;base64," + base64.b64encode(b"x" * 1001).decode()
        answer = await site.client.post("/v1/jobs", json={"prompt": "a", "image": uri})
        check_problem(answer, 413, "image_too_large", "image", "1000 bytes")
        assert site.leftovers() == []


async def test_a_body_far_above_the_limit_is_refused_by_its_length(opened: Any) -> None:
    sent = 0

    async def body() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 10_000
            yield b"x" * 10_000

    async with opened(max_image_bytes=1000) as site:
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "1000000"}
        answer = await site.client.post("/v1/jobs", content=body(), headers=headers)
        check_problem(answer, 413, "image_too_large", "1000 bytes")
        assert sent == 0


async def test_a_body_without_a_length_is_counted(opened: Any) -> None:
    sent = 0

    async def body() -> Any:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(100):
            sent += 10_000
            yield b"x" * 10_000

    async with opened(max_image_bytes=1000) as site:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await site.client.post("/v1/jobs", content=body(), headers=headers)
        check_problem(answer, 413, "image_too_large", "1000 bytes")
        assert sent < 200_000
        assert site.leftovers() == []


async def test_a_long_body_elsewhere_is_413(site: Site) -> None:
    answer = await site.client.post(
        "/v1/estimates", content=b" " * 300_000, headers={"Content-Type": "application/json"}
    )
    check_problem(answer, 413, "body_too_large", "262144 bytes")


async def test_other_media_types_are_415(site: Site) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}):
        answer = await site.client.post("/v1/jobs", content=b"prompt=a", headers=headers)
        check_problem(answer, 415, "unsupported_media_type", "multipart/form-data", "application/json")


async def test_unparsable_bodies_are_400(site: Site) -> None:
    for content, kind in (
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"[" * 5000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"prompt": "\\ud800"}', "application/json"),
        (b"no boundary", "multipart/form-data"),
        (b"nonsense", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b"),
    ):
        answer = await site.client.post("/v1/jobs", content=content, headers={"Content-Type": kind})
        check_problem(answer, 400, "malformed_request")
    assert site.leftovers() == []


async def test_a_job_that_no_gpu_could_hold_is_unschedulable_with_sizes(site: Site) -> None:
    answer = await site.post(width="1536", height="1536", num_frames="64")
    check_problem(answer, 422, "unschedulable", "GiB", "largest GPU", "NVIDIA GeForce RTX 3090")
    assert site.leftovers() == []


async def test_a_full_queue_is_429_and_says_when_to_come_back(opened: Any) -> None:
    async with opened(max_queued=1) as site:
        await site.submit()
        answer = await site.post()
        check_problem(answer, 429, "queue_full", "full")
        assert int(answer.headers["retry-after"]) >= 1
        assert len(list((site.settings.data_dir / "blobs" / "jobs").iterdir())) == 1


async def test_before_any_worker_there_is_no_model(opened: Any) -> None:
    async with opened(with_gpu=False) as site:
        answer: httpx.Response = await site.post()
        check_problem(answer, 503, "no_model", "no worker has registered a model")
        assert int(answer.headers["retry-after"]) >= 1
        assert site.leftovers() == []


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"tab\tkey", b"\xe9"])
async def test_idempotency_keys_must_be_short_ascii(site: Site, key: bytes) -> None:
    body = check_problem(
        await site.post(headers={b"Idempotency-Key": key}), 422, "invalid_parameter", "Idempotency-Key", "255"
    )
    assert body["errors"][0]["field"] == "Idempotency-Key"
    assert site.leftovers() == []


async def test_a_form_that_ends_before_its_closing_boundary_is_refused(site: Site) -> None:
    """What came before the cut would be a whole job, but not the one that was asked for."""
    head = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    body = head % (b"image", b'; filename="i.png"') + picture() + b"\r\n" + head % (b"prompt", b"") + b"x\r\n"
    body += head % (b"num_frames", b"") + b"1"
    response = await site.client.post(
        "/v1/jobs", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    check_problem(response, 400, "incomplete_body")
    assert site.leftovers() == []


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos"])
async def test_json_of_very_many_values_is_refused_unparsed(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def never(*_: object, **__: object) -> object:
        raise AssertionError("it was parsed")

    monkeypatch.setattr("app.uploads.from_json", never)
    for values in (b"[]," * 30_000, b"{}," * 30_000, b"[" * 60_000, b"0," * 60_000):
        body = b'{"prompt": "' + b"a" * 2**20 + b'", "a": [' + values + b"0]}"
        answer = await site.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert check_problem(answer, 400, "malformed_request", "50000")["limit"] == 50_000


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos", "/v1/estimates"])
async def test_an_answer_tells_of_few_errors(site: Site, path: str) -> None:
    for count in (90, 10_000):
        answer = await site.client.post(path, json={"input_reference": "a"} | {f"a{n}": 0 for n in range(count)})
        body = check_problem(answer, 422, "invalid_parameter")
        assert len(body["errors"]) <= 20
        assert len(answer.content) < 10_000


async def test_many_errors_in_one_field_are_few_in_the_answer(site: Site) -> None:
    for count in (100, 10_000):
        for values in ({"webhook_events": [0] * count}, {"metadata": {str(n): 0 for n in range(count)}}):
            answer = await site.client.post("/v1/jobs", json={"prompt": "a", "image": "a"} | values)
            body = check_problem(answer, 422, "invalid_parameter")
            assert len(body["errors"]) <= 20
