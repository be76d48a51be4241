"""What the client asks for advice."""

import httpx
import pytest


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {}),
        ({"growth": "high", "card_price": 700}, {"growth": "high", "card_price": "700"}),
        ({"since": "2030-01-31T18:00:00Z", "growth": 0.2}, {"since": "2030-01-31T18:00:00Z", "growth": "0.2"}),
    ],
)
def test_what_is_sent(client, server, asked, sent):
    server.default = httpx.Response(200, json={"object": "advice"})
    assert client.advice(**asked) == {"object": "advice"}
    (request,) = server.requests
    assert (request.method, request.url.path, dict(request.url.params)) == ("GET", "/v1/admin/advice", sent)
