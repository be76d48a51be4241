"""What the client asks for alerts."""

import httpx
import pytest


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("alerts", "GET", ""),
        ("alert_secret", "GET", "/secret"),
        ("rotate_alert_secret", "POST", "/secret/rotate"),
    ],
)
def test_what_is_sent(client, server, name, method, path):
    server.default = httpx.Response(200, json={"object": "list"})
    assert getattr(client, name)() == {"object": "list"}
    (request,) = server.requests
    assert (request.method, request.url.path) == (method, f"/v1/admin/alerts{path}")
