"""What each method sends."""

import json

import httpx
import pytest

from app.client import Client


@pytest.fixture
def sent(client, server, make_job):
    """Call the client and return the request it made."""
    server.default = httpx.Response(200, json={**make_job(), "data": []})

    def send(call):
        call(client)
        return server.requests[-1]

    return send


@pytest.mark.parametrize(
    ("call", "method", "target"),
    [
        (lambda c: c.job("job_1"), "GET", "/v1/jobs/job_1"),
        (lambda c: c.jobs(), "GET", "/v1/jobs"),
        (lambda c: c.jobs("failed", 5, "next"), "GET", "/v1/jobs?status=failed&limit=5&cursor=next"),
        (lambda c: c.cancel("job_1"), "POST", "/v1/jobs/job_1/cancel"),
        (lambda c: c.delete("job_1"), "DELETE", "/v1/jobs/job_1"),
        (lambda c: c.models(), "GET", "/v1/models"),
        (lambda c: c.gpus(), "GET", "/v1/admin/gpus"),
        (lambda c: c.gpu("GPU-1"), "GET", "/v1/admin/gpus/GPU-1"),
        (lambda c: c.resume("GPU-1"), "POST", "/v1/admin/gpus/GPU-1/resume"),
        (lambda c: c.job("../admin?x=1#y"), "GET", "/v1/jobs/..%2Fadmin%3Fx%3D1%23y"),
    ],
)
def test_method_and_target(sent, call, method, target):
    request = sent(call)
    assert (request.method, request.url.raw_path.decode()) == (method, target)


def test_drain_sends_reason_and_mode(sent):
    request = sent(lambda c: c.drain("cpu 0", "fan is loud", "checkpoint"))
    assert request.url.raw_path == b"/v1/admin/gpus/cpu%200/drain"
    assert json.loads(request.content) == {"reason": "fan is loud", "mode": "checkpoint"}


def test_a_drain_sends_what_was_said_and_nothing_else(sent):
    request = sent(lambda c: c.drain("GPU-1", "why", deadline_seconds=90.0, on_deadline=None, dry_run=True))
    assert json.loads(request.content) == {"reason": "why", "mode": "finish", "deadline_seconds": 90.0, "dry_run": True}


def test_many_gpus_are_one_request(sent):
    request = sent(lambda c: c.drain_many(("GPU-1", "GPU-2"), "why", "checkpoint", resume_after_seconds=60))
    assert (request.method, request.url.raw_path) == ("POST", b"/v1/admin/drain")
    body = {"gpus": ["GPU-1", "GPU-2"], "reason": "why", "mode": "checkpoint", "resume_after_seconds": 60}
    assert json.loads(request.content) == body
    request = sent(lambda c: c.resume_many(["GPU-1", "GPU-2"]))
    assert (request.method, request.url.raw_path) == ("POST", b"/v1/admin/resume")
    assert json.loads(request.content) == {"gpus": ["GPU-1", "GPU-2"]}


def test_estimates_send_numbers_as_numbers(sent):
    request = sent(lambda c: c.estimate(width=512, guidance_scale=9.5, model=None))
    assert json.loads(request.content) == {"width": 512, "guidance_scale": 9.5}


def test_submit_sends_a_form(sent, tmp_path):
    image = tmp_path / "sea.jpg"
    image.write_bytes(b"\xff\xd8 jpeg")
    request = sent(lambda c: c.submit(image, "waves", num_frames=16, metadata={"a": "b"}, model=None, seed=0))
    body = request.read()
    assert request.headers["Content-Type"].startswith("multipart/form-data")
    assert b'name="image"; filename="sea.jpg"\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8 jpeg' in body
    assert b'name="num_frames"\r\n\r\n16\r\n' in body
    assert b'name="seed"\r\n\r\n0\r\n' in body
    assert b'name="metadata"\r\n\r\n{"a": "b"}\r\n' in body
    assert b'name="model"' not in body


def test_the_key_goes_into_the_header(server):
    server.default = httpx.Response(200, json={"data": []})
    with Client("http://a/", api_key="secret", transport=httpx.MockTransport(server)) as client:
        client.jobs()
        assert client.url == "http://a"
    assert server.requests[0].headers["Authorization"] == "Bearer secret"


def test_without_a_key_there_is_no_header(sent):
    assert "Authorization" not in sent(lambda c: c.jobs()).headers


def test_an_image_that_cannot_be_read_is_an_os_error(client, server, tmp_path):
    with pytest.raises(FileNotFoundError):
        client.submit(tmp_path / "none.png", "waves")
    assert server.requests == []


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
def test_ready_is_what_the_server_says(client, server, status, ready):
    server.default = httpx.Response(status)
    assert client.ready() is ready
    assert len(server.requests) == 1
