"""Input that was never meant to be: whatever comes, no answer is a 5xx and nothing stays."""

import json
import random
from typing import Any

import pytest

from tests.support.http import Site, picture

SEEDS = range(40)


def form(*parts: bytes, boundary: bytes = b"b") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


IMAGE = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + picture()
PROMPT = b'Content-Disposition: form-data; name="prompt"\r\n\r\na fox'
BODIES: list[tuple[str, bytes]] = [
    ("multipart/form-data; boundary=b; charset=hex", form(IMAGE, PROMPT[:-5] + b"\xff\xfe")),
    ("multipart/form-data; boundary=b; charset=utf-16", form(IMAGE, PROMPT)),
    ("multipart/form-data; boundary=b; charset=rot13", form(IMAGE, PROMPT)),
    ("multipart/form-data; boundary=b; charset=idna", form(IMAGE, PROMPT)),
    ("multipart/form-data; boundary=b; charset=undefined", form(IMAGE, PROMPT)),
    ("multipart/form-data; boundary=b; charset=unicode_escape", form(IMAGE, PROMPT[:-5] + b"\\ud800")),
    ("multipart/form-data; boundary=", form(IMAGE, PROMPT)),
    ("multipart/form-data; boundary=" + "b" * 300, form(IMAGE, PROMPT, boundary=b"b" * 300)),
    ("multipart/form-data; boundary=b", form(IMAGE, PROMPT)[:-30]),
    ("multipart/form-data; boundary=b", form(*[PROMPT] * 40)),
    ("multipart/form-data; boundary=b", form(IMAGE.replace(b"a.png", b"\x00../../etc/passwd"), PROMPT[:-5])),
    ("multipart/form-data; boundary=b", form(b"Content-Disposition: \xff\r\n\r\nx")),
    ("multipart/form-data; boundary=b", form(b"Content-Disposition: form-data; name*=utf-9''%ff\r\n\r\nx")),
    ("multipart/form-data; boundary=b", form(PROMPT.replace(b'"prompt"', b'"\xed\xa0\x80"'))),
    ("multipart/form-data; boundary=b", b""),
    ("application/json", b"null"),
    ("application/json", b'{"prompt":' + b"[" * 100_000),
    ("application/json", b'{"prompt": "a", "image": "data:;base64,"}'),
    ("application/json", b'{"prompt": "a", "image": "data:' + b";" * 10_000 + b'base64,AAAA"}'),
    ("application/json", b'{"\\u0000": 1, "\\ud83d": 2}'),
    ("application/json", b'{"width": 1e400, "guidance_scale": -1e400, "seed": ' + b"9" * 5000 + b"}"),
    ("application/json", json.dumps({"k" * 5000: 1, **{f"f{i}": i for i in range(3000)}}).encode()),
    ("application/json; charset=\xff", b"{}"),
    ("\xff/\xfe", b"{}"),
    ("multipart/form-data" + ";" * 1000, b"{}"),
]


async def test_bodies(site: Site) -> None:
    for kind, body in BODIES:
        headers: Any = {b"Content-Type": kind.encode("latin-1")}
        answer = await site.client.post("/v1/jobs", content=body, headers=headers)
        assert 400 <= answer.status_code < 500, (kind, body[:200], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert site.leftovers() == [], (kind, body[:200])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_damaged_images(site: Site, kind: str) -> None:
    whole = picture(kind, (48, 32))
    seen = set()
    for seed in SEEDS:
        chance = random.Random(f"{kind}-{seed}")  # noqa: S311  the same damage at each run
        data = bytearray(whole)
        for _ in range(chance.choice((1, 3, 10))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        answer = await site.post(bytes(data[: chance.randrange(len(data)) if seed % 2 else None]))
        assert answer.status_code in (202, 413, 415, 422), answer.text
        seen.add(answer.status_code)
    assert 422 in seen


async def test_image_modes(site: Site) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr"):
        answer = await site.post(picture("JPEG" if mode in ("CMYK", "YCbCr") else "PNG", mode=mode))
        assert answer.status_code == 202, (mode, answer.text)


async def test_paths(site: Site) -> None:
    for path in ("/v1/jobs/a?wait=1&wait=2", "/v1/jobs?status=%ff", "/%2e%2e/", "/v1/jobs/%ff", "/v1/jobs/%00/video"):
        assert 400 <= (await site.client.get(path)).status_code < 500, path


HEADERS: list[dict[bytes, bytes]] = [
    {b"Range": b"bytes=" + b"9" * 400 + b"-"},
    {b"Range": b"bytes=-0"},
    {b"Range": b"\xff"},
    {b"If-None-Match": b",,,\xff"},
    {b"If-Range": b"\xff"},
    {b"X-Request-Id": b"\xff\xfe"},
    {b"X-Forwarded-Proto": b"gopher"},
    {b"Origin": b"\xff://\xff"},
    {b"Content-Length": b"9" * 50},
    {b"Content-Length": b"-1"},
]


async def test_headers(site: Site) -> None:
    job_id = await site.succeeded()
    for headers in HEADERS:
        raw: Any = headers
        for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/video"):
            assert (await site.client.get(path, headers=raw)).status_code < 500, headers
        assert (await site.client.post("/v1/estimates", content=b"{}", headers=raw)).status_code < 500, headers
