"""Images that come from URLs: what is fetched, and what never is. Each refusal leaves no file and no row."""

import asyncio
import io
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from app import lookups, sources
from app.guarded import GuardedClient
from app.lookups import Lookups
from tests.support.http import Site, check_problem, picture
from tests.support.https import NAME, Exchange, HttpsServer, make_certificate, serving

LOOPBACK = "127.0.0.1/32"
NAMES = {
    NAME: ["127.0.0.1"],
    "other.example": ["127.0.0.1"],
    "inner.example": ["10.0.0.1"],
    "both.example": ["8.8.8.8", "10.0.0.1"],
    "metadata.example": ["169.254.169.254"],
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def trust(monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]) -> None:
    """Have the application trust one certificate more, and otherwise do all that it does."""
    tls = httpx.create_ssl_context()
    tls.load_verify_locations(certificate[0])
    monkeypatch.setattr("app.sources.GuardedClient", partial(GuardedClient, tls=tls))


@pytest.fixture
def server(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsServer]:
    """A server that the application trusts, and reaches where it may ask the loopback."""

    def resolve(host: str) -> list[str]:
        if host not in NAMES:
            raise OSError("unknown")
        return NAMES[host]

    trust(monkeypatch, certificate)
    monkeypatch.setattr("app.lookups._resolved", resolve)
    with serving(certificate) as running:
        running.replies["/fox.png"] = lambda one: one.answer(200, picture())
        yield running


async def post(site: Site, url: str, **headers: str) -> httpx.Response:
    return await site.client.post("/v1/jobs", json={"prompt": "a red fox", "image": url}, headers=headers)


async def refused(site: Site, url: str, code: str, *words: str) -> dict[str, Any]:
    body = check_problem(await post(site, url), 422, code, "image", *words)
    assert body["errors"][0]["field"] == "image"
    assert site.leftovers() == []
    return body


async def test_an_image_is_fetched(opened: Any, server: HttpsServer) -> None:
    server.replies["/moved"] = lambda one: one.answer(302, Location="/fox.png")
    async with opened(allowed_networks=LOOPBACK) as site:
        for path in ("/fox.png", "/moved"):
            answer = await post(site, server.url(path))
            assert answer.status_code == 202, answer.text
            key = site.stored(answer.json()["id"]).image_key
            stored = Image.open(io.BytesIO(b"".join(site.scheduler.blobs.read(key, 0, 10**6))))
            assert (stored.format, stored.size) == ("PPM", (64, 48))
        assert list(site.temporary.iterdir()) == []


async def test_a_large_image_is_fetched_by_way_of_the_disk(opened: Any, server: HttpsServer) -> None:
    noise = Image.merge("RGB", [Image.effect_noise((800, 800), 99) for _ in range(3)])
    file = io.BytesIO()
    noise.save(file, "PNG", compress_level=1)
    assert len(file.getvalue()) > 2**20
    server.replies["/"] = lambda one: one.answer(200, file.getvalue())
    async with opened(allowed_networks=LOOPBACK) as site:
        assert (await post(site, server.url())).status_code == 202
        assert list(site.temporary.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example/a.png", "https://127.0.0.1/", "https://localhost@127.0.0.1/", "https://[::1]/",
        "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/", "https://2130706433/", "https://0x7f000001/", "https://017700000001/",
        "https://127.1/", "https://images.example./", "https://user:pass@images.example/", "https://images.example/#a",
        "https://images.example:22/", "https://images.example:6/", "https://10.0.0.1/", "https://[fe80::1%25eth0]/",
        "https://[64:ff9b::a00:1]/", "https://[2002:a00:1::1]/", "https://0.0.0.0/", "https://255.255.255.255/",
    ],
)  # fmt: skip
async def test_inward_urls_are_not_allowed(site: Site, server: HttpsServer, url: str) -> None:
    await refused(site, url, "url_not_allowed")
    assert server.connections == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://images.example/a", "gopher://images.example:70/1", "a"])
async def test_other_schemes_are_no_source(site: Site, url: str) -> None:
    await refused(site, url, "unsupported_image_source", "https URL")


async def test_a_name_of_an_inner_server_is_as_good_as_none(site: Site, server: HttpsServer) -> None:
    """Nobody can ask which names a private network has."""
    answers = [
        await refused(site, url, "url_fetch_failed", "no public address")
        for url in (
            server.url("/fox.png"), "https://inner.example/", "https://both.example/", "https://unknown.example/",
            "https://metadata.example/computeMetadata/v1/",
        )
    ]  # fmt: skip
    for answer in answers:
        del answer["request_id"]
    assert answers == answers[:1] * len(answers)
    assert server.connections == 0


async def test_redirects_inward_are_not_followed(opened: Any, server: HttpsServer) -> None:
    async with opened(allowed_networks=LOOPBACK) as site:
        for location in (
            f"http://{NAME}:{server.port}/fox.png", "https://169.254.169.254/", "file:///a", "https://[::1]/",
        ):  # fmt: skip
            server.replies["/"] = lambda one, location=location: one.answer(302, Location=location)
            await refused(site, server.url(), "url_not_allowed")
        server.replies["/"] = lambda one: one.answer(302, Location="https://inner.example/")
        await refused(site, server.url(), "url_fetch_failed", "no public address")


async def test_loops_end(opened: Any, server: HttpsServer) -> None:
    server.replies["/"] = lambda one: one.answer(302, Location="/")
    async with opened(allowed_networks=LOOPBACK) as site:
        assert (await refused(site, server.url(), "url_fetch_failed", "redirects"))["limit"] == 3


async def test_a_name_that_means_something_else_the_next_time(
    opened: Any, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public (here: allowed) when it is checked, private afterwards: no second look-up is there to be fooled."""
    meanings, asked, real = iter(["127.0.0.1", "127.0.0.2"]), [], socket.getaddrinfo

    def getaddrinfo(host: str, *more: Any, **options: Any) -> Any:
        if host != NAME:
            return real(host, *more, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(meanings), 0))]

    trust(monkeypatch, certificate)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)  # whoever asks it, the connection included
    with serving(certificate) as server:
        server.replies["/fox.png"] = lambda one: one.answer(200, picture())
        async with opened(allowed_networks=LOOPBACK) as site:
            assert (await post(site, server.url("/fox.png"))).status_code == 202
            assert asked == [NAME]
            check_problem(await post(site, server.url("/fox.png")), 422, "url_fetch_failed", "no public address")
        assert (server.connections, asked) == (1, [NAME, NAME])


def endless(one: Exchange) -> None:
    one.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not one.stopping.is_set():
        one.connection.sendall(b"x" * 65_536)


def drip(one: Exchange) -> None:
    one.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not one.stopping.wait(0.05):
        one.connection.sendall(b"x")


async def test_sizes_and_times_are_limited(opened: Any, server: HttpsServer) -> None:
    server.replies["/endless"] = endless
    server.replies["/large"] = lambda one: one.answer(200, b"x" * 50_001)
    server.replies["/slow"] = drip
    async with opened(allowed_networks=LOOPBACK, max_image_bytes=50_000, url_fetch_seconds=0.5) as site:
        for path in ("/endless", "/large"):
            body = check_problem(await post(site, server.url(path)), 413, "image_too_large", "50000 bytes")
            assert (body["limit"], body["errors"][0]["field"], site.leftovers()) == (50_000, "image", [])
        assert (await refused(site, server.url("/slow"), "url_fetch_failed", "0.5 seconds"))["limit"] == 0.5


async def test_failures_to_fetch(opened: Any, server: HttpsServer) -> None:
    async with opened(allowed_networks=LOOPBACK) as site:
        await refused(site, server.url("/missing"), "url_fetch_failed", "404")


@pytest.mark.parametrize("wrong", ["name", "expired", "not trusted"])
async def test_certificates_are_checked(
    opened: Any, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    name = "other.example" if wrong == "name" else NAME
    shown = make_certificate(tmp_path, name, days=-1 if wrong == "expired" else 2)
    if wrong != "not trusted":
        trust(monkeypatch, shown)
    with serving(shown) as other:
        other.replies["/fox.png"] = lambda one: one.answer(200, picture())
        async with opened(allowed_networks=LOOPBACK) as site:
            await refused(site, other.url("/fox.png"), "url_fetch_failed", "TLS")
            if wrong == "name":  # the rest of it is good
                assert (await post(site, other.url("/fox.png", host=name))).status_code == 202
        assert len(other.seen) == (wrong == "name"), "nothing is asked of a stranger"


async def test_too_many_names_at_once(opened: Any, server: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that nobody answers for hold up their tenant, and are not taken for the image's fault."""
    answering = threading.Event()
    real = lookups._resolved
    monkeypatch.setattr(lookups, "_resolved", lambda host: answering.wait(30) and real(host))
    monkeypatch.setattr(sources, "_LOOKUPS", Lookups())
    try:
        async with opened(allowed_networks=LOOPBACK, url_fetch_seconds=0.1) as site:
            for _ in range(8):
                await refused(site, server.url("/fox.png"), "url_fetch_failed", "0.1 seconds")
            answer = await post(site, server.url("/fox.png"))
            check_problem(answer, 503, "too_many_uploads", "host names")
            assert answer.headers["retry-after"] == "1"
            assert site.leftovers() == []
    finally:
        answering.set()


async def test_what_is_fetched_is_decided_by_decoding(opened: Any, server: HttpsServer) -> None:
    server.replies["/html"] = lambda one: one.answer(200, b"<html></html>", Content_Type="image/png")
    server.replies["/empty"] = lambda one: one.answer(200, b"", Content_Type="image/png")
    server.replies["/png"] = lambda one: one.answer(200, picture(), Content_Type="text/html")
    async with opened(allowed_networks=LOOPBACK) as site:
        for path in ("/html", "/empty"):
            check_problem(await post(site, server.url(path)), 415, "not_an_image", "image")
            assert site.leftovers() == []
        assert (await post(site, server.url("/png"))).status_code == 202


async def test_a_replay_fetches_nothing(opened: Any, server: HttpsServer) -> None:
    key = {"Idempotency-Key": "one"}
    async with opened(allowed_networks=LOOPBACK) as site:
        first = await post(site, server.url("/fox.png"), **key)
        server.replies["/fox.png"] = lambda one: one.answer(404)
        again = await post(site, server.url("/fox.png"), **key)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["idempotent-replayed"] == "true"
        check_problem(await post(site, server.url("/other"), **key), 422, "idempotency_key_reused")
        assert server.connections == 1


async def test_an_operator_may_allow_http(opened: Any, server: HttpsServer) -> None:
    with serving() as plain:
        plain.replies["/"] = lambda one: one.answer(200, picture())
        async with opened(allowed_networks=LOOPBACK, allow_http_urls=True) as site:
            assert (await post(site, f"http://{NAME}:{plain.port}/")).status_code == 202
    assert server.connections == 0


async def test_others_are_served_while_one_waits_for_its_url(opened: Any, server: HttpsServer) -> None:
    asked, release = threading.Event(), threading.Event()

    def late(one: Exchange) -> None:
        asked.set()
        release.wait(10)
        one.answer(200, picture())

    server.replies["/late"] = late
    async with opened(allowed_networks=LOOPBACK) as site:
        waiting = asyncio.create_task(post(site, server.url("/late")))
        try:
            assert await asyncio.to_thread(asked.wait, 10)
            assert (await site.post()).status_code == 202
        finally:
            release.set()
        assert (await waiting).status_code == 202
