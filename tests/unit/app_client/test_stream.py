"""Following a job by its stream of events."""

import json
from itertools import islice

import httpx
import pytest

from app.client import ApiError, WaitTimeout

PROGRESS = {"fraction": 0.4, "step": 4, "steps": 10}


@pytest.fixture
def event(make_job):
    """One event as the server writes it; by default the whole job in the state `status`."""

    def make(status, version, name="status", **changes):
        body = make_job(status) if name == "status" else {"id": "job_1", "status": status, **changes}
        return f"event: {name}\nid: {version}\ndata: {json.dumps(body)}\n\n".encode()

    return make


@pytest.fixture
def stream(make_body):
    def make(*parts, **headers):
        headers = {"Content-Type": "text/event-stream; charset=utf-8", **headers}
        return httpx.Response(200, headers=headers, stream=make_body(*parts))

    return make


@pytest.fixture
def look(make_job):
    return lambda status, **changes: httpx.Response(200, json=make_job(status, **changes), headers={"ETag": '"1"'})


def last_ids(server):
    return [request.headers.get("Last-Event-ID") for request in server.stream_requests]


def test_one_look_and_one_stream_show_all(client, server, look, stream, event):
    server.script = [look("queued")]
    progress = event("running", "2-1", "progress", stage="denoising", progress=PROGRESS)
    events = [event("queued", "1-0"), event("running", "2-0"), b": still here\n\n", progress]
    server.streams = [stream(*events, event("succeeded", "3-1"))]
    seen = []
    job = client.wait("job_1", on_change=seen.append)
    assert job["status"] == "succeeded"
    assert [(one["status"], one.get("stage")) for one in seen] == [
        ("queued", None),
        ("running", None),
        ("running", "denoising"),
        ("succeeded", None),
    ]
    assert seen[2]["progress"] == PROGRESS
    assert seen[2]["id"] == "job_1"
    assert (len(server.requests), len(server.stream_requests)) == (1, 1)
    assert server.stream_requests[0].headers["Accept"] == "text/event-stream"
    assert server.stream_requests[0].extensions["timeout"]["read"] == 20.0
    assert server.time.slept == []


def test_an_ended_job_needs_no_stream(client, server, look):
    server.script = [look("failed")]
    assert [job["status"] for job in client.stream("job_1")] == ["failed"]
    assert server.stream_requests == []


def test_a_cut_is_taken_up_again_after_a_restart(client, server, look, stream, event):
    down = [*[httpx.ConnectError("refused")] * 8, httpx.Response(503)]
    server.script = [look("queued"), *down, look("running")]
    cut = stream(event("running", "2-0"), httpx.ReadError("reset"))
    server.streams = [cut, stream(event("succeeded", "3-1"))]
    assert [job["status"] for job in client.stream("job_1")] == ["queued", "running", "succeeded"]
    assert last_ids(server) == [None, "2-0"]
    assert 10.0 < sum(server.time.slept) < 60.0


def test_a_server_that_stops_closes_the_stream_and_is_asked_again(client, server, look, stream, event):
    server.script = [look("queued"), look("running")]
    server.streams = [stream(event("running", "2-0")), stream(event("succeeded", "3-1"))]
    assert client.wait("job_1")["status"] == "succeeded"
    assert last_ids(server) == [None, "2-0"]


def test_a_job_that_ended_meanwhile_has_no_stream(client, server, look, stream, event):
    server.script = [look("queued"), look("running"), look("succeeded")]
    server.streams = [stream(event("running", "2-0")), httpx.Response(204)]
    assert client.wait("job_1")["status"] == "succeeded"


@pytest.mark.parametrize("status", [404, 405, 406, 415, 429, 500, 503])
def test_where_there_is_no_stream_polls_go_on(client, server, look, status):
    server.script = [look("queued"), look("succeeded")]
    server.streams = [httpx.Response(status)]
    assert client.wait("job_1")["status"] == "succeeded"
    assert len(server.stream_requests) == 1
    assert server.requests[1].url.params["wait"] == "30.000"
    assert server.requests[1].headers["If-None-Match"] == '"1"'
    assert server.time.slept == []


def test_what_is_no_stream_of_events_is_not_read(client, server, look, stream, event):
    server.script = [look("queued"), look("succeeded")]
    page = stream(b"<html>", **{"Content-Type": "text/html"})
    server.streams = [page]
    assert client.wait("job_1")["status"] == "succeeded"
    assert page.is_closed


@pytest.mark.parametrize(
    "silence", [[httpx.ReadTimeout("nothing")], [b"event: status\nid: 1-0\ndata: no JSON\n\n", b"more"]]
)
def test_a_proxy_that_holds_events_back_or_spoils_them_ends_in_polls(client, server, look, stream, silence):
    server.script = [look("queued"), look("running"), look("succeeded")]
    server.streams = [stream(*silence)] * 3
    if len(silence) > 1:
        server.streams = [stream(*silence), httpx.Response(404)]
    seen = [job["status"] for job in client.stream("job_1")]
    assert seen == ["queued", "running", "succeeded"]
    assert server.requests[-1].url.params["wait"] == "30.000"


def test_a_stream_that_falls_silent_is_opened_again(client, server, look, stream, event):
    server.script = [look("queued"), look("running")]
    server.streams = [stream(event("running", "2-0"), httpx.ReadTimeout("nothing")), stream(event("failed", "3-0"))]
    assert client.wait("job_1")["status"] == "failed"
    assert last_ids(server) == [None, "2-0"]


def test_a_stream_that_always_ends_at_once_is_not_hammered(client, server, look, stream, event):
    server.script = [*[look("queued")] * 5, look("succeeded")]
    server.streams = [stream(event("queued", "1-0")) for _ in range(5)]
    client.wait("job_1")
    assert len(server.time.slept) == 5
    assert sum(server.time.slept) >= 2.5


def test_the_callers_time_bounds_the_stream(client, server, look, stream, fake_time):
    def later():
        fake_time.now += 15.0

    server.script = [look("running")]
    server.streams = [stream(*[later, b": still here\n\n"] * 10)]
    with pytest.raises(WaitTimeout, match="job_1 has not ended in time"):
        client.wait("job_1", timeout=40.0)
    assert fake_time.now == 1045.0
    server.script = [look("running")]
    server.streams = [stream(later, httpx.ReadTimeout("nothing"))]
    with pytest.raises(WaitTimeout):
        client.wait("job_1", timeout=5.0)
    assert server.stream_requests[1].extensions["timeout"]["read"] == 5.0


def test_whoever_has_seen_enough_leaves_nothing_open(client, server, look, stream, event):
    server.script = [look("queued")]
    server.streams = [opened] = [stream(event("running", "2-0"), event("succeeded", "3-0"))]
    states = client.stream("job_1")
    assert [job["status"] for job in islice(states, 2)] == ["queued", "running"]
    assert not opened.is_closed
    states.close()
    assert opened.is_closed


def test_a_key_that_no_longer_counts_ends_the_wait(client, server, look, stream, event):
    server.script = [look("queued")]
    server.default = httpx.Response(401, json={"code": "unauthorized", "detail": "revoked"})
    server.streams = [stream(event("running", "2-0"), httpx.ReadError("reset"))]
    with pytest.raises(ApiError):
        client.wait("job_1")
    assert len(server.requests) == 2
