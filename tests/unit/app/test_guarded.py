"""What requests to strangers' URLs may reach. The servers are on the loopback, which only these tests allow."""

import io
import ssl
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.exchanges import FetchFailed
from app.guarded import Answer, GuardedClient
from app.urls import UrlNotAllowed
from tests.support.addresses import NOT_PUBLIC
from tests.support.https import NAME, Exchange, HttpsServer, make_certificate, serving

LOOPBACK = (ip_network("127.0.0.1/32"),)
SECONDS = 20.0


def client(names: dict[str, list[str]], **options: Any) -> GuardedClient:
    def resolve(host: str, _seconds: float) -> list[str]:
        if host not in names:
            raise OSError(f"{host}: unknown")
        return names[host]

    return GuardedClient(**{"resolve": resolve, "tls": ssl.create_default_context(), **options})


@pytest.mark.parametrize("address", [*NOT_PUBLIC, "fe80::1%eth0"])
def test_names_that_lead_inside(address: str) -> None:
    for found in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        with pytest.raises(FetchFailed, match="no public address"):
            fetch(client({NAME: found}), f"https://{NAME}/")


def test_nobody_learns_which_names_are_inside() -> None:
    told = set()
    for names in ({}, {NAME: []}, {NAME: ["10.0.0.1"]}):
        with pytest.raises(FetchFailed) as caught:
            fetch(client(names), f"https://{NAME}/")
        told.add((str(caught.value), caught.value.limit))
    assert told == {("its host name has no public address", None)}


def fetch(guarded: GuardedClient, url: str, *, seconds: float = SECONDS, max_bytes: int = 1000) -> tuple[Answer, bytes]:
    file = io.BytesIO()
    answer = guarded.get(url, timeout_seconds=seconds, max_bytes=max_bytes, into=file)
    assert answer.body == b""
    return answer, file.getvalue()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[HttpsServer]:
    with serving(certificate) as running:
        yield running


@pytest.fixture
def guarded(certificate: tuple[Path, Path]) -> GuardedClient:
    """Trusts the server's certificate, and may ask the loopback."""
    names = {NAME: ["127.0.0.1"], "other.example": ["127.0.0.1"], "inner.example": ["10.0.0.1"]}
    return client(names, networks=LOOPBACK, tls=ssl.create_default_context(cafile=certificate[0]))


def test_what_is_there_is_written(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/a?b"] = lambda one: one.answer(200, b"x" * 1000, Content_Type="image/png")
    answer, body = fetch(guarded, server.url("/a?b"))
    assert (answer.status, answer.headers["content-type"], body) == (200, "image/png", b"x" * 1000)
    (asked,) = server.seen
    assert asked.headers == {
        "host": f"{NAME}:{server.port}", "accept-encoding": "identity", "connection": "close", "user-agent": "reelq",
    }  # fmt: skip


def test_proxies_of_the_environment_are_not_asked(
    server: HttpsServer, guarded: GuardedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.replies["/"] = lambda one: one.answer(200, b"x")
    assert fetch(guarded, server.url())[1] == b"x"


def test_a_name_that_changes_between_check_and_use_leads_nowhere_else(
    server: HttpsServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver is asked once; nothing else, the system's own resolver least of all, is asked for the address."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]])
    tls = ssl.create_default_context(cafile=certificate[0])
    rebinding = GuardedClient(LOOPBACK, resolve=lambda _host, _seconds: next(answers), tls=tls)
    server.replies["/"] = lambda one: one.answer(200, b"x")
    assert fetch(rebinding, server.url())[1] == b"x"
    with pytest.raises(FetchFailed, match="no public address"):  # and the next request is checked anew
        fetch(rebinding, server.url())
    assert server.connections == 1


def test_a_redirect_to_a_name_that_has_changed_is_refused(server: HttpsServer, certificate: tuple[Path, Path]) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    tls = ssl.create_default_context(cafile=certificate[0])
    rebinding = GuardedClient(LOOPBACK, resolve=lambda _host, _seconds: next(answers), tls=tls)
    server.replies["/"] = lambda one: one.answer(302, Location="/again")
    with pytest.raises(FetchFailed, match="no public address"):
        fetch(rebinding, server.url())
    assert server.connections == 1


def test_redirects_are_followed_and_checked(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/1"] = lambda one: one.answer(301, Location="/2#part")
    server.replies["/2"] = lambda one: one.answer(307, Location=server.url("/3"))
    server.replies["/3"] = lambda one: one.answer(308, Location="4?a")
    server.replies["/4?a"] = lambda one: one.answer(200, b"there")
    assert fetch(guarded, server.url("/1"))[1] == b"there"
    server.replies["/0"] = lambda one: one.answer(303, Location="/1")
    with pytest.raises(FetchFailed, match="3 redirects"):
        fetch(guarded, server.url("/0"))


@pytest.mark.parametrize(
    "location",
    ["http://images.example/", "https://10.0.0.1/", "//127.0.0.2/", "https://[::1]/", "//[",
     "file:///etc/passwd", "gopher://127.0.0.1:6379/_SET", "https://u:p@images.example/", "https://2130706433/",
     "https://images.example:22/", "https://169.254.169.254/latest/meta-data/", "/a b", "/\xe9", "\\\\127.0.0.1\\"],
)  # fmt: skip
def test_redirects_inward(server: HttpsServer, guarded: GuardedClient, location: str) -> None:
    server.replies["/"] = lambda one: one.answer(302, Location=location)
    with pytest.raises(UrlNotAllowed):
        fetch(guarded, server.url())
    assert server.connections == 1


def test_a_redirect_to_an_inner_name_leads_nowhere(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/"] = lambda one: one.answer(302, Location="https://inner.example/")
    with pytest.raises(FetchFailed, match="no public address"):
        fetch(guarded, server.url())
    assert server.connections == 1


def test_from_https_to_http_is_refused_even_where_http_is_allowed(
    server: HttpsServer, certificate: tuple[Path, Path]
) -> None:
    tls = ssl.create_default_context(cafile=certificate[0])
    either = client({NAME: ["127.0.0.1"]}, networks=LOOPBACK, tls=tls, allow_http=True)
    with serving() as plain:
        plain.replies["/"] = lambda one: one.answer(302, Location=server.url())
        server.replies["/"] = lambda one: one.answer(302, Location=f"http://{NAME}:{plain.port}/")
        with pytest.raises(UrlNotAllowed, match="https"):
            fetch(either, f"http://{NAME}:{plain.port}/")
    assert (plain.connections, server.connections) == (1, 1)


def test_a_loop_of_redirects_ends(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/"] = lambda one: one.answer(302, Location="/")
    with pytest.raises(FetchFailed, match="redirects"):
        fetch(guarded, server.url())
    assert server.connections == 4


@pytest.mark.parametrize("status", [204, 206, 304, 400, 404, 500])
def test_only_a_200_is_an_answer(server: HttpsServer, guarded: GuardedClient, status: int) -> None:
    server.replies["/"] = lambda one: one.answer(status)
    with pytest.raises(FetchFailed, match=str(status)):
        fetch(guarded, server.url())


def endless(one: Exchange) -> None:
    one.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not one.stopping.is_set():
        one.connection.sendall(b"x" * 65_536)


def test_sizes_are_limited(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/said"] = lambda one: one.answer(200, b"x" * 1001)
    server.replies["/endless"] = endless
    for path in ("/said", "/endless"):
        with pytest.raises(FetchFailed, match="larger than 1000 bytes") as caught:
            fetch(guarded, server.url(path))
        assert caught.value.limit == 1000


def endless_headers(one: Exchange) -> None:
    one.connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not one.stopping.is_set():
        one.connection.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")


def empty_chunks(one: Exchange) -> None:
    one.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not one.stopping.is_set():
        one.connection.sendall(b"1;" + b"x" * 4000 + b"\r\nx\r\n")


def interim_answers(one: Exchange) -> None:
    while not one.stopping.is_set():
        one.connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100)


@pytest.mark.parametrize("reply", [endless_headers, empty_chunks, interim_answers])
def test_what_surrounds_a_body_is_limited(
    server: HttpsServer, guarded: GuardedClient, reply: Callable[[Exchange], None]
) -> None:
    server.replies["/"] = reply
    with pytest.raises(FetchFailed):
        fetch(guarded, server.url())


def drip(one: Exchange) -> None:
    one.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not one.stopping.wait(0.05):
        one.connection.sendall(b"x")


def drip_headers(one: Exchange) -> None:
    one.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not one.stopping.wait(0.05):
        one.connection.sendall(b"x")


def silence(one: Exchange) -> None:
    one.stopping.wait()


@pytest.mark.parametrize("reply", [drip, drip_headers, silence])
def test_the_time_is_limited_as_a_whole(
    server: HttpsServer, guarded: GuardedClient, reply: Callable[[Exchange], None]
) -> None:
    server.replies["/"] = reply
    began = time.monotonic()
    with pytest.raises(FetchFailed, match=r"longer than 0\.3 seconds") as caught:
        fetch(guarded, server.url(), seconds=0.3)
    assert caught.value.limit == 0.3
    assert time.monotonic() - began < 10


def test_no_answer_in_whole_is_none(server: HttpsServer, guarded: GuardedClient) -> None:
    def cut(one: Exchange) -> None:
        one.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxxx")

    server.replies["/cut"] = cut
    server.replies["/garbage"] = lambda one: one.connection.sendall(b"SSH-2.0-x\r\n\r\n")
    server.replies["/packed"] = lambda one: one.answer(200, b"x", Content_Encoding="gzip")
    server.replies["/none"] = lambda one: one.connection.close()
    for path in ("/cut", "/garbage", "/packed", "/none"):
        with pytest.raises(FetchFailed):
            fetch(guarded, server.url(path))


def test_certificates_are_checked_against_the_name(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/"] = lambda one: one.answer(200, b"x")
    with pytest.raises(FetchFailed, match="no trusted TLS"):
        fetch(guarded, server.url(host="other.example"))
    with pytest.raises(FetchFailed, match="no trusted TLS"):  # nor is a certificate for the name one for the address
        fetch(guarded, server.url(host="127.0.0.1"))
    with pytest.raises(FetchFailed, match="no trusted TLS"):
        fetch(client({NAME: ["127.0.0.1"]}, networks=LOOPBACK), server.url())
    assert server.seen == []


def test_where_nobody_listens_the_next_address_is_tried(server: HttpsServer, certificate: tuple[Path, Path]) -> None:
    server.replies["/"] = lambda one: one.answer(200, b"x")
    networks, tls = (ip_network("127.0.0.0/8"),), ssl.create_default_context(cafile=certificate[0])
    both = client({NAME: ["127.0.0.9", "127.0.0.1"]}, networks=networks, tls=tls)
    assert fetch(both, server.url())[1] == b"x"
    with pytest.raises(FetchFailed, match="no connection"):
        fetch(client({NAME: ["127.0.0.9"]}, networks=networks, tls=tls), server.url())


def test_a_post_returns_whatever_is_answered(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/hook"] = lambda one: one.answer(410, b"y" * 5000, X_A="b")
    answer = guarded.post(
        server.url("/hook"),
        headers={"Content-Type": "application/json", "webhook-id": "1"},
        content=b'{"a": 1}',
        timeout_seconds=SECONDS,
        max_bytes=100,
    )
    assert (answer.status, answer.headers["x-a"], answer.body) == (410, "b", b"y" * 100)
    (asked,) = server.seen
    assert (asked.body, asked.headers["webhook-id"]) == (b'{"a": 1}', "1")
    assert asked.headers["content-type"] == "application/json"


def test_a_post_follows_no_redirect(server: HttpsServer, guarded: GuardedClient) -> None:
    server.replies["/"] = lambda one: one.answer(302, Location="/there")
    answer = guarded.post(server.url(), headers={}, content=b"", timeout_seconds=SECONDS, max_bytes=100)
    assert answer.status == 302
    assert server.connections == 1
    with pytest.raises(FetchFailed, match="no public address"):
        guarded.post("https://inner.example/", headers={}, content=b"", timeout_seconds=SECONDS, max_bytes=1)


def test_plain_http_where_it_is_allowed() -> None:
    with serving() as plain:
        plain.replies["/"] = lambda one: one.answer(200, b"x")
        allowed = client({NAME: ["127.0.0.1"]}, networks=LOOPBACK, allow_http=True)
        assert fetch(allowed, f"http://{NAME}:{plain.port}/")[1] == b"x"
