"""What each method sends."""

import inspect
import json
from datetime import UTC, datetime

import httpx
import pytest

from app.client import AsyncClient, Client


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
        (lambda c: c.get("job_1"), "GET", "/v1/jobs/job_1"),
        (lambda c: c.list(), "GET", "/v1/jobs"),
        (
            lambda c: c.list(status="failed", limit=5, cursor="next"),
            "GET",
            "/v1/jobs?status=failed&limit=5&cursor=next",
        ),
        (lambda c: c.cancel("job_1"), "POST", "/v1/jobs/job_1/cancel"),
        (lambda c: c.delete("job_1"), "DELETE", "/v1/jobs/job_1"),
        (lambda c: c.models(), "GET", "/v1/models"),
        (lambda c: c.model("a/b"), "GET", "/v1/models/a%2Fb"),
        (lambda c: c.account(), "GET", "/v1/account"),
        (lambda c: c.retry("job_1"), "POST", "/v1/jobs/job_1/retry"),
        (lambda c: c.webhooks(), "GET", "/v1/webhooks"),
        (lambda c: c.enable_webhook("e"), "POST", "/v1/webhooks/e/enable"),
        (lambda c: c.deliveries(job="j", status="failed"), "GET", "/v1/webhooks/deliveries?job=j&status=failed"),
        (lambda c: c.delivery("d"), "GET", "/v1/webhooks/deliveries/d"),
        (lambda c: c.redeliver("d"), "POST", "/v1/webhooks/deliveries/d/redeliver"),
        (lambda c: c.webhook_secret(), "GET", "/v1/webhooks/secret"),
        (lambda c: c.rotate_webhook_secret(), "POST", "/v1/webhooks/secret/rotate"),
        (lambda c: c.gpus(), "GET", "/v1/admin/gpus"),
        (lambda c: c.gpu("GPU-1"), "GET", "/v1/admin/gpus/GPU-1"),
        (lambda c: c.resume("GPU-1"), "POST", "/v1/admin/gpus/GPU-1/resume"),
        (lambda c: c.get("../admin?x=1#y"), "GET", "/v1/jobs/..%2Fadmin%3Fx%3D1%23y"),
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


@pytest.mark.parametrize(("given", "sent"), [("secret", "secret"), (" secret\n", "secret"), (None, "rq_environment")])
def test_the_key_goes_into_the_header(connect, server, monkeypatch, given, sent):
    monkeypatch.setenv("REELQ_API_KEY", "rq_environment")
    server.default = httpx.Response(200, json={"data": []})
    client = connect("http://a/", api_key=given)
    client.list()
    assert client.url == "http://a"
    assert server.requests[0].headers["Authorization"] == f"Bearer {sent}"


@pytest.mark.parametrize(("variable", "url"), [(None, "http://127.0.0.1:8000"), ("http://far:1/", "http://far:1")])
def test_the_environment_names_the_server(connect, monkeypatch, variable, url):
    monkeypatch.delenv("REELQ_URL", raising=False)
    if variable:
        monkeypatch.setenv("REELQ_URL", variable)
    assert connect(None).url == url


def test_without_a_key_there_is_no_header(sent, monkeypatch):
    monkeypatch.delenv("REELQ_API_KEY", raising=False)
    assert "Authorization" not in sent(lambda c: c.list()).headers


@pytest.mark.parametrize("image", ["https://example.com/sea.jpg", "data:image/png;base64,AAAA"])
def test_an_image_elsewhere_is_named_in_json(sent, image):
    deadline = datetime(2030, 1, 31, 18, tzinfo=UTC)
    request = sent(lambda c: c.submit(image, "waves", seed=0, webhook_events=["job.failed"], deadline=deadline))
    assert datetime.fromisoformat(json.loads(request.content)["deadline"]) == deadline
    assert json.loads(request.content) == {
        "image": image,
        "prompt": "waves",
        "seed": 0,
        "webhook_events": ["job.failed"],
        "deadline": json.loads(request.content)["deadline"],
    }


def test_lists_and_times_in_a_form(sent):
    request = sent(
        lambda c: c.submit(b"image", "waves", webhook_events=["job.failed"], deadline="2030-01-31T18:00:00Z")
    )
    assert b'name="webhook_events"\r\n\r\n["job.failed"]\r\n' in request.read()
    assert b'name="deadline"\r\n\r\n2030-01-31T18:00:00Z\r\n' in request.read()


def test_filters_of_a_list(sent):
    since = datetime(2026, 1, 1, tzinfo=UTC)
    request = sent(lambda c: c.list(status=["failed", "cancelled"], model="a/b", tenant="acme", created_after=since))
    assert request.url.params.get_list("status") == ["failed", "cancelled"]
    assert (request.url.params["model"], request.url.params["tenant"]) == ("a/b", "acme")
    assert datetime.fromisoformat(request.url.params["created_after"]) == since


def test_both_clients_have_the_same_methods_with_the_same_parameters():
    def methods(kind):
        public = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        return {name: list(inspect.signature(method).parameters) for name, method in public.items() if callable(method)}

    assert methods(Client) == methods(AsyncClient)
    assert methods(Client)["submit"] == ["self", "image", "prompt", "idempotency_key", "fields"]
    assert all(getattr(Client, name).__doc__ for name in methods(Client))


def test_an_image_that_cannot_be_read_is_an_os_error(client, server, tmp_path):
    with pytest.raises(FileNotFoundError):
        client.submit(tmp_path / "none.png", "waves")
    assert server.requests == []


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
def test_ready_is_what_the_server_says(client, server, status, ready):
    server.default = httpx.Response(status)
    assert client.ready() is ready
    assert len(server.requests) == 1
