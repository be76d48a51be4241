"""Following a job to its end."""

import httpx
import pytest

from app.client import ApiError, Polled, ServerUnreachable, WaitTimeout


@pytest.fixture
def answer(make_job):
    def make(status, etag, **changes):
        return httpx.Response(200, json=make_job(status, **changes), headers={"ETag": etag} if etag else {})

    return make


def test_every_state_is_shown_and_the_last_returned(client, server, answer):
    server.script = [answer("queued", '"1"'), answer("running", '"2"'), answer("succeeded", '"3"')]
    seen = []
    job = client.wait("job_1", on_change=lambda job: seen.append(job["status"]))
    assert job["status"] == "succeeded"
    assert seen == ["queued", "running", "succeeded"]


def test_polls_are_long_and_carry_the_last_tag(client, server, answer):
    server.script = [answer("queued", '"1"'), answer("running", '"2"'), answer("failed", '"3"')]
    client.wait("job_1")
    asked = [(r.url.params.get("wait"), r.headers.get("If-None-Match")) for r in server.requests]
    assert asked == [(None, None), ("30.000", '"1"'), ("30.000", '"2"')]
    assert server.requests[1].extensions["timeout"]["read"] == 60.0


def test_no_change_is_not_shown_and_keeps_the_tag(client, server, answer, fake_time):
    def unchanged(request):
        fake_time.now += 30.0
        return httpx.Response(304)

    server.script = [answer("queued", '"1"'), unchanged, answer("cancelled", '"2"')]
    seen = []
    client.wait("job_1", on_change=lambda job: seen.append(job["status"]))
    assert seen == ["queued", "cancelled"]
    assert server.requests[2].headers["If-None-Match"] == '"1"'
    assert fake_time.slept == []


@pytest.mark.parametrize("etag", ['"1"', None])
def test_a_server_that_does_not_wait_is_not_hammered(client, server, answer, fake_time, etag):
    same = httpx.Response(304) if etag else answer("queued", None)
    server.script = [answer("queued", etag), same, same, answer("succeeded", etag)]
    client.wait("job_1")
    assert sum(fake_time.slept) >= 1.0


def test_a_restart_of_the_server_is_survived(client, server, answer, fake_time):
    down = [httpx.ReadError("reset"), *[httpx.ConnectError("refused")] * 8, httpx.Response(503)]
    server.script = [answer("running", '"1"'), *down, answer("succeeded", '"2"')]
    assert client.wait("job_1")["status"] == "succeeded"
    assert 10.0 < sum(fake_time.slept) < 60.0
    assert all(r.headers.get("If-None-Match") == '"1"' for r in server.requests[1:])


def test_a_server_that_stays_away_ends_the_wait(client, server, answer, fake_time):
    server.script = [answer("running", '"1"')]
    server.default = httpx.ConnectError("refused")
    began = fake_time.now
    with pytest.raises(ServerUnreachable):
        client.wait("job_1")
    assert 100.0 < fake_time.now - began <= 125.0


def test_a_job_that_is_gone_ends_the_wait(client, server, answer):
    server.script = [answer("queued", '"1"')]
    server.default = httpx.Response(404, json={"code": "not_found", "detail": "no job job_1"})
    with pytest.raises(ApiError, match="no job job_1"):
        client.wait("job_1")
    assert len(server.requests) == 2


def test_the_callers_time_bounds_the_wait(client, server, answer, fake_time):
    def unchanged(request):
        fake_time.now += float(request.url.params["wait"])
        return httpx.Response(304)

    server.script = [answer("running", '"1"')]
    server.default = unchanged
    with pytest.raises(WaitTimeout, match="job_1 has not ended in time"):
        client.wait("job_1", timeout=45.0)
    assert [r.url.params.get("wait") for r in server.requests] == [None, "30.000", "15.000"]


def test_the_callers_time_bounds_an_outage_too(client, server, fake_time):
    server.default = httpx.ConnectError("refused")
    began = fake_time.now
    with pytest.raises(WaitTimeout, match="cannot reach the server"):
        client.wait("job_1", timeout=10.0)
    assert fake_time.now - began == pytest.approx(10.0), "all of it, and no more"


def refused(request):
    raise httpx.ConnectError("refused")


def not_yet(request):
    return httpx.Response(503, headers={"Retry-After": "60"})


@pytest.mark.parametrize("away", [refused, not_yet])
def test_a_server_that_is_back_at_the_last_moment_is_found(client, server, answer, fake_time, away):
    until = fake_time.now + 5.0
    server.default = lambda request: answer("succeeded", '"1"') if fake_time.now >= until else away(request)
    assert client.wait("job_1", timeout=5.0)["status"] == "succeeded"


def test_one_poll(client, server, answer):
    server.script = [answer("queued", '"1"'), httpx.Response(304)]
    first = client.poll("job_1")
    assert first.job is not None
    assert first.etag == '"1"'
    assert client.poll("job_1", wait=5, etag=first.etag) == Polled(None, '"1"')
