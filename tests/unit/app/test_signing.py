"""Signatures against the library that receivers use."""

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.signing import signed_headers

OLD, NEW, OTHER = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"a", b"b", b"c"))
BODY = '{"type": "job.succeeded", "data": {"metadata": {"name": "Jürgen “J.” 映"}}}'.encode()


def test_the_library_accepts_what_is_signed() -> None:
    headers = signed_headers([NEW], "msg_1", int(time.time()), BODY)
    assert Webhook(NEW).verify(BODY, headers)["type"] == "job.succeeded"


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_with_two_secrets_in_force_either_verifies(secret: str) -> None:
    headers = signed_headers([NEW, OLD], "msg_1", int(time.time()), BODY)
    Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, headers)


@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp", "body"])
def test_what_was_changed_on_the_way_is_not_accepted(change: str) -> None:
    now = int(time.time())
    headers, body = signed_headers([NEW], "msg_1", now, BODY), BODY
    if change == "body":
        body = BODY.replace(b"succeeded", b"failed")
    else:
        headers[change] = {"webhook-id": "msg_2", "webhook-timestamp": str(now + 1)}[change]
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body, headers)


def test_a_known_signature() -> None:
    """The same key, id, time and text give the same signature in every version of this program."""
    headers = signed_headers([NEW], "msg_1", 1_800_000_000, b"{}")
    assert headers == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1800000000",
        "webhook-signature": "v1,WYDKAptbBtg9ZI7q9GSNMqnpwl9oq8Nl7Cip5qQWenM=",
    }
