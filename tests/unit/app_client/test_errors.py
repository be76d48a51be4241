"""Answers that are no success become errors with one clear line."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from app.client import AccessDenied, ApiError, AsyncClient, Client, ServerUnreachable


def problem(status, **members):
    return httpx.Response(status, json=members, headers={"Content-Type": "application/problem+json"})


def test_a_problem_becomes_an_error_that_carries_it(client, server):
    server.default = problem(422, code="invalid_parameter", detail="width must be divisible by 8, not 65", limit=8)
    with pytest.raises(ApiError) as caught:
        client.estimate(width=65)
    error = caught.value
    assert (error.status, error.code) == (422, "invalid_parameter")
    assert str(error) == "width must be divisible by 8, not 65 (invalid_parameter)"
    assert error.problem["limit"] == 8
    assert len(server.requests) == 1


def test_an_answer_that_is_no_problem_still_says_what_it_was(client, server):
    server.default = httpx.Response(404, text="<html>\nno such\x1b[31m page</html>")
    with pytest.raises(ApiError, match="no such") as caught:
        client.get("job_1")
    assert caught.value.code == "http_404"
    assert "\n" not in str(caught.value)


def test_an_empty_answer_has_its_reason(client, server):
    server.default = httpx.Response(418)
    with pytest.raises(ApiError, match="teapot"):
        client.list()


def test_another_server_at_the_address_is_recognised(client, server):
    server.default = httpx.Response(200, text="<html>hello</html>")
    with pytest.raises(ApiError, match=r"http://reelq.test:8000/v1/models did not answer with JSON"):
        client.models()


def test_unreachable_names_the_address_the_cause_and_the_remedy(client, server, fake_time):
    server.default = httpx.ConnectError("[Errno 111] Connection refused")
    with pytest.raises(ServerUnreachable) as caught:
        client.gpus()
    line = str(caught.value)
    assert "http://reelq.test:8000" in line
    assert "Connection refused" in line
    assert "`reelq up`" in line
    assert len(server.requests) == 4
    assert sum(fake_time.slept) < 2.0


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "", "http://[::1", "http://a:b"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_server_url_is_refused(kind, url):
    with pytest.raises(ValueError, match="URL"):
        kind(url)


def test_without_a_key_the_error_says_what_is_missing(connect, server):
    server.default = problem(401, code="unauthorized", detail="an API key is needed")
    with pytest.raises(AccessDenied) as caught:
        connect(api_key="").list()
    assert str(caught.value) == "the server wants an API key: set REELQ_API_KEY (unauthorized)"
    assert caught.value.problem["detail"] == "an API key is needed"
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "insufficient_scope")])
def test_a_key_that_will_not_do_is_an_error_of_its_own_that_does_not_show_it(connect, server, status, code):
    server.default = problem(status, code=code, detail="this key is of no use here")
    client = connect(api_key="rq_secret")
    with pytest.raises(AccessDenied) as caught:
        client.cancel("job_1")
    assert str(caught.value) == f"this key is of no use here ({code})"
    assert "rq_secret" not in repr((caught.value, caught.value.problem, vars(client)))


@pytest.mark.parametrize(
    ("url", "key"), [("http://a", "rq_sec\nret"), ("http://a", "rq_sécret"), ("http://user:rq_secret@a", "k")]
)
def test_what_is_secret_is_not_in_the_words_that_refuse_it(url, key):
    with pytest.raises(ValueError, match=r"key|password") as caught:
        Client(url, api_key=key)
    assert "rq_s" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("soon", None),
    ],
)
def test_retry_after_may_be_a_number(client, server, header, expected):
    server.default = httpx.Response(400, headers={"Retry-After": header})
    with pytest.raises(ApiError) as caught:
        client.list()
    found = caught.value.retry_after_seconds
    assert found == expected


@pytest.mark.parametrize(("hours", "expected"), [(1, 3600.0), (-1, 0.0)])
def test_retry_after_may_be_a_date(client, server, hours, expected):
    date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    server.default = httpx.Response(400, headers={"Retry-After": date})
    with pytest.raises(ApiError) as caught:
        client.list()
    assert caught.value.retry_after_seconds == pytest.approx(expected, abs=60)


def test_the_environments_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    for url, trusts in (("http://127.0.0.1:1", False), ("http://localhost:1", False), ("http://far.example", True)):
        with Client(url) as client:
            assert client._http.trust_env is trusts
