"""What the client sends to look at the queue, and to change it, jobs or a model."""

import json

import httpx
import pytest

from app.client import ServerUnreachable

QUEUE = {"object": "queue", "paused": True}


@pytest.mark.parametrize(
    ("call", "method", "target", "body"),
    [
        (lambda c: c.queue(), "GET", "/v1/admin/queue", None),
        (lambda c: c.pause_queue("power cut"), "POST", "/v1/admin/queue/pause", {"reason": "power cut"}),
        (lambda c: c.resume_queue(), "POST", "/v1/admin/queue/resume", None),
        (lambda c: c.prioritize("a/b", 2.5), "PATCH", "/v1/admin/jobs/a%2Fb", {"priority": 2.5}),
        (lambda c: c.preempt("a/b"), "POST", "/v1/admin/jobs/a%2Fb/preempt", {}),
        (lambda c: c.preempt("j", "a rush"), "POST", "/v1/admin/jobs/j/preempt", {"reason": "a rush"}),
        (lambda c: c.cancel_many(("j", "k")), "POST", "/v1/jobs/cancel", {"ids": ["j", "k"]}),
        (lambda c: c.retry_many(["j"]), "POST", "/v1/jobs/retry", {"ids": ["j"]}),
        (lambda c: c.hold_model("a/b", "bad"), "POST", "/v1/admin/models/a%2Fb/hold", {"reason": "bad"}),
        (lambda c: c.release_model("a/b"), "POST", "/v1/admin/models/a%2Fb/release", None),
    ],
)
def test_what_is_sent(client, server, call, method, target, body):
    server.default = httpx.Response(200, json=QUEUE)
    assert call(client) == QUEUE
    (request,) = server.requests
    assert (request.method, request.url.raw_path.decode()) == (method, target)
    assert json.loads(request.content or b"null") == body


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.pause_queue("a"),
        lambda c: c.resume_queue(),
        lambda c: c.prioritize("j", 2),
        lambda c: c.preempt("j"),
        lambda c: c.hold_model("m", "a"),
        lambda c: c.release_model("m"),
    ],
)
def test_a_change_is_not_sent_again(client, server, call):
    """Somebody else may have said otherwise meanwhile."""
    server.default = httpx.ReadError("cut off")
    with pytest.raises(ServerUnreachable):
        call(client)
    assert len(server.requests) == 1


def test_several_jobs_are_retried_once_under_one_key(client, server):
    server.script = [httpx.ReadError("cut off")]
    server.default = httpx.Response(200, json=QUEUE)
    client.retry_many(["j", "k"])
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert (len(server.requests), len(keys)) == (2, 1)


def test_a_look_is_tried_again(client, server):
    server.script = [httpx.ReadError("cut off")]
    server.default = httpx.Response(200, json=QUEUE)
    assert client.queue() == QUEUE
    assert len(server.requests) == 2
