"""What is tried again, how often, and after how long."""

import io

import httpx
import pytest

from app.client import ApiError, ClientError, ServerUnreachable
from app.client.retry import Retry, wait_before_retry

REFUSED = httpx.ConnectError("refused")


class Once(io.RawIOBase):
    """A file that can be read but not rewound, as a pipe is."""

    def __init__(self, content):
        self.content = [content]

    def readable(self):
        return True

    def readall(self):
        return self.content.pop()


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_transient_answer_is_tried_again(client, server, make_job, status):
    server.script = [httpx.Response(status), httpx.Response(status), httpx.Response(200, json=make_job())]
    assert client.get("job_1")["id"] == "job_1"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 404, 409, 410, 422, 500, 504, 507])
def test_other_answers_are_final(client, server, fake_time, status):
    server.default = httpx.Response(status)
    with pytest.raises(ApiError):
        client.get("job_1")
    assert len(server.requests) == 1
    assert fake_time.slept == []


def test_retry_after_is_honoured(client, server, fake_time, make_job):
    server.script = [httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(200, json=make_job())]
    client.get("job_1")
    assert fake_time.slept == [7.0]


def test_a_retry_after_beyond_the_bound_is_the_callers_to_wait(client, server, fake_time):
    server.default = httpx.Response(429, json={"code": "queue_full", "detail": "full"}, headers={"Retry-After": "3600"})
    with pytest.raises(ApiError) as caught:
        client.submit(b"image", "waves")
    assert caught.value.retry_after_seconds == 3600
    assert len(server.requests) == 1
    assert fake_time.slept == []


@pytest.mark.parametrize("failure", [REFUSED, httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("gone")])
def test_a_submission_is_repeated_with_the_same_key_and_the_same_body(client, server, make_job, tmp_path, failure):
    image = tmp_path / "sea.png"
    image.write_bytes(b"\x89PNG and so on")
    server.script = [failure, httpx.Response(202, json=make_job())]
    client.submit(image, "waves", num_frames=16)
    first, second = server.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    parts = [body.split(b"\r\n", 1)[1] for body in server.bodies]  # after the boundary, which is random
    assert len(parts[0]) == len(parts[1])
    assert all(b"\x89PNG and so on" in part for part in parts)


def test_every_submission_has_its_own_key_unless_given(client, server, make_job):
    server.default = httpx.Response(202, json=make_job())
    client.submit(b"image", "waves")
    client.submit(b"image", "waves")
    client.submit(b"image", "waves", idempotency_key="mine")
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


@pytest.mark.parametrize(
    "call", [lambda c: c.drain("g", "why"), lambda c: c.redeliver("d"), lambda c: c.rotate_webhook_secret()]
)
@pytest.mark.parametrize("status", [None, 503])
def test_what_may_not_be_said_twice_is_said_once(client, server, call, status):
    server.default = httpx.Response(status) if status else REFUSED
    with pytest.raises(ClientError):
        call(client)
    assert len(server.requests) == 1


def test_a_file_is_sent_whole_each_time(client, server, make_job):
    for image in (io.BytesIO(b"whole image"), Once(b"whole image")):
        server.script = [httpx.ReadError("cut off"), httpx.Response(202, json=make_job())]
        client.submit(image, "waves")
    assert all(b"\r\n\r\nwhole image\r\n" in body for body in server.bodies)
    assert len(server.bodies) == 4


def test_a_retry_of_a_job_is_repeated_with_the_same_key(client, server, make_job):
    server.script = [REFUSED, httpx.Response(202, json=make_job())]
    client.retry("job_1")
    first, second = (request.headers["Idempotency-Key"] for request in server.requests)
    assert first == second


def test_a_deletion_that_was_cut_off_may_have_had_its_effect(client, server):
    gone = httpx.Response(404, json={"code": "not_found", "detail": "no job"})
    server.script = [httpx.ReadError("cut off"), gone]
    client.delete("job_1")
    server.script = [gone]
    with pytest.raises(ApiError, match="no job"):
        client.delete("job_1")


def test_no_retries(connect, server):
    server.default = httpx.Response(503)
    with pytest.raises(ApiError):
        connect(max_retries=0).list()
    assert len(server.requests) == 1


def test_the_bound_is_time_as_well_as_tries(connect, server, fake_time):
    def hang(request):
        fake_time.now += 20.0
        raise httpx.ReadTimeout("slow")

    server.default = hang
    with pytest.raises(ServerUnreachable, match="no answer in time"):
        connect(max_retries=99, max_retry_seconds=30.0).list()
    assert len(server.requests) == 2


def test_delays_double_with_jitter_up_to_a_limit():
    delays = list(Retry(attempts=9).delays())
    assert len(delays) == 8
    for index, delay in enumerate(delays):
        longest = min(0.2 * 2**index, 5.0)
        assert longest / 2 <= delay <= longest


def test_retry_after_never_shortens_the_delay():
    assert wait_before_retry(ApiError(429, "c", "d", retry_after_seconds=0.0), 1.5) == 1.5
    assert wait_before_retry(ApiError(422, "c", "d"), 1.5) is None
