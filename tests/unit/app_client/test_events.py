"""Reading the log of events to its end, or on and on."""

from itertools import islice

import httpx
import pytest

from app.client import ApiError, ServerUnreachable


def page(*positions, more=False, cursor=None):
    data = [{"position": position, "type": "job.queued"} for position in positions]
    cursor = str(positions[-1] if cursor is None else cursor)
    return httpx.Response(200, json={"object": "list", "data": data, "has_more": more, "next_cursor": cursor})


def positions(events):
    return [event["position"] for event in events]


def asked(server):
    return [dict(request.url.params) for request in server.requests]


def test_all_pages_are_read_to_the_end(client, server, fake_time):
    server.script = [page(4, 5, more=True), page(6)]
    assert positions(client.events(3)) == [4, 5, 6]
    assert asked(server) == [{"after": "3"}, {"after": "5"}]
    assert fake_time.slept == []


def test_of_one_subject(client, server):
    server.script = [page(4, more=True), page(cursor=99)]
    assert positions(client.events(subject="job_1")) == [4]
    assert asked(server) == [{"after": "0", "subject": "job_1"}, {"after": "4", "subject": "job_1"}]


def test_following_goes_on_at_the_end_without_hurry(client, server, fake_time):
    server.script = [page(1, 2), page(cursor=2), page(cursor=7), page(8)]
    assert positions(islice(client.events(follow=True), 3)) == [1, 2, 8]
    assert [query["after"] for query in asked(server)] == ["0", "2", "2", "7"]
    assert len(fake_time.slept) == 3


def test_following_outlives_a_restart_and_reading_does_not(client, server, fake_time):
    down = [httpx.ReadError("reset"), *[httpx.ConnectError("refused")] * 8, httpx.Response(503)]
    server.script = [page(1), *down, page(2)]
    assert positions(islice(client.events(follow=True), 2)) == [1, 2]
    assert sum(fake_time.slept) > 10.0
    server.script = list(down)
    with pytest.raises(ServerUnreachable):
        next(client.events())


def test_what_is_no_longer_kept_is_an_error(client, server):
    server.script = [httpx.Response(410, json={"status": 410, "code": "events_expired", "detail": "gone"})]
    with pytest.raises(ApiError) as error:
        next(client.events(1))
    assert error.value.code == "events_expired"
