"""Which URLs may be asked, as far as can be told without looking up a name."""

import io
from ipaddress import ip_network

import pytest

from app.guarded import GuardedClient
from app.urls import UrlNotAllowed, check_url
from tests.support.addresses import NOT_PUBLIC, PUBLIC

NOT_ALLOWED = [
    "", "example.com", "//example.com/", "http://example.com/", "HTTP://example.com/", "file:///etc/passwd",
    "ftp://example.com/", "gopher://example.com/", "data:image/png;base64,AAAA", "javascript:alert(1)", "https:",
    "https://", "https:///path", "https:/example.com/", "https:\\\\example.com\\", "https://user@example.com/",
    "https://user:pass@example.com/", "https://@example.com/", "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/", "https://example.com#@127.0.0.1/", "https://example.com/#part",
    "https://example.com/\n", "https://example.com/ ", " https://example.com/", "https://exa mple.com/",
    "https://example.com/a\r\nHost: inner", "https://example.com/\x00", "https://example.com/\\a",
    "https://ex%61mple.com/", "https://%31%32%37.1/",
    "https://example.com:0/", "https://example.com:22/", "https://example.com:25/", "https://example.com:80/",
    "https://example.com:1023/", "https://example.com:65536/", "https://example.com:99999/", "https://example.com:/",
    "https://example.com:-1/", "https://example.com:4 43/", "https://example.com./", "https://.example.com/",
    "https://a..example.com/", "https://" + "a" * 64 + ".com/", "https://" + "a." * 130 + "com/", "https://b\xfccher.de/",
    "https://\uff11\uff12\uff17.0.0.1/", "https://127\u30020\u30020\u30021/",
    "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/",
    "https://017700000001/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.1/", "https://127.0.0.1./",
    "https://127.0.0.0x1/", "https://127.0.0.01/", "https://256.1.1.1/", "https://1.1.1.1.1/", "https://0/",
    "https://[::1/", "https://[]/", "https://[::1]x/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/",
    "https://[::1.2.3]/", "https://[v1.a]/", "https://example.com/" + "a" * 2048,
    *(f"https://{address}/" for address in NOT_PUBLIC if ":" not in address),
    *(f"https://[{address}]/" for address in NOT_PUBLIC if ":" in address),
]  # fmt: skip


def looked_up(host: str, _seconds: float) -> list[str]:
    raise AssertionError(f"{host} is looked up")


@pytest.mark.parametrize("url", NOT_ALLOWED)
def test_urls_that_are_not_allowed(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_url(url)
    with pytest.raises(UrlNotAllowed):  # whatever a name means, nothing is looked up
        GuardedClient(resolve=looked_up).get(url, timeout_seconds=20.0, max_bytes=1, into=io.BytesIO())


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "https://example.com/a?b=c&d", "https://example.com?q", "https://EXAMPLE.com:443/",
     "https://example.com:8443/", "https://xn--bcher-kva.de/", "https://a_b.example/", "https://intranet/",
     "https://1.example.com/", "https://example.com/%0a/@x:y"]
    + [f"https://{address}/" for address in PUBLIC if ":" not in address]
    + [f"https://[{address}]/" for address in PUBLIC if ":" in address],
)  # fmt: skip
def test_urls_that_may_be_asked(url: str) -> None:
    check_url(url)


def test_operators_may_allow_more() -> None:
    check_url("http://example.com/", allow_http=True)
    check_url("https://10.1.2.3/", networks=[ip_network("10.0.0.0/8")])
    for url, networks in (("https://10.1.2.3/", ["10.0.0.0/16"]), ("https://[::ffff:10.0.0.1]/", ["10.0.0.0/8"])):
        with pytest.raises(UrlNotAllowed):
            check_url(url, networks=[ip_network(network) for network in networks])
