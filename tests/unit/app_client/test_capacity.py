"""What the client asks for the capacity."""

import httpx


def test_what_is_sent(client, server):
    server.default = httpx.Response(200, json={"object": "capacity"})
    assert client.capacity() == {"object": "capacity"}
    (request,) = server.requests
    assert (request.method, request.url.path) == ("GET", "/v1/admin/capacity")
