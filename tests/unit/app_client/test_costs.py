"""What the client asks for what was spent."""

from datetime import UTC, datetime

import httpx
import pytest


@pytest.mark.parametrize(
    ("window", "sent"),
    [
        ({}, {}),
        ({"since": "2030-01-31T18:00:00Z"}, {"since": "2030-01-31T18:00:00Z"}),
        ({"since": None, "until": "2030-01-31T18:00:00Z"}, {"until": "2030-01-31T18:00:00Z"}),
    ],
)
def test_what_is_sent(client, server, window, sent):
    server.default = httpx.Response(200, json={"object": "costs"})
    assert client.costs(**window) == {"object": "costs"}
    (request,) = server.requests
    assert (request.method, request.url.path, dict(request.url.params)) == ("GET", "/v1/admin/costs", sent)


def test_times_are_sent_with_their_zone(client, server):
    server.default = httpx.Response(200, json={})
    at = datetime(2030, 1, 31, 18, tzinfo=UTC)
    client.costs(since=at)
    (request,) = server.requests
    assert datetime.fromisoformat(request.url.params["since"]) == at
