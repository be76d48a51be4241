"""What the sender makes of answers and errors, without a network."""

import threading
import time
from email.utils import formatdate
from typing import Any

import pytest

from app.guarded import Answer, FetchFailed, UrlNotAllowed
from app.webhooks import Sender
from scheduler.webhooks import Due

DUE = Due("msg_1", "we_1", "https://hooks.example/a", "{}", ("whsec_" + "YWFh" * 8,))


class Outbox:
    """Has one delivery to send, and keeps what came of it."""

    def __init__(self) -> None:
        self.due = [DUE]
        self.outcome: Any = None
        self.over = threading.Event()

    def fan_out(self, payload: Any) -> int:
        return 0

    def claim_due(self, limit: int, lease_seconds: float, busy: list[str]) -> list[Due]:
        taken, self.due = self.due, []
        return taken

    def delivered(self, delivery_id: str, seconds: float, status: int) -> None:
        self.outcome = status
        self.over.set()

    def failed(self, delivery_id: str, seconds: float, error: str, **more: Any) -> None:
        self.outcome = (error, more["status"], more["retry_after_seconds"], more["gone"])
        self.over.set()


class Wakeup:
    """Wakes nobody by itself; it is its own listener."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def listen(self, channel: str) -> "Wakeup":
        return self

    def wait(self, timeout_seconds: float) -> None:
        self._woken.wait(timeout_seconds)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        pass


class Client:
    """Answers, or raises."""

    def __init__(self, outcome: Answer | Exception) -> None:
        self._outcome = outcome

    def post(self, url: str, **request: Any) -> Answer:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def outcome_of(answer: Answer | Exception) -> Any:
    outbox: Any = Outbox()
    wakeup: Any = Wakeup()
    client: Any = Client(answer)
    sender = Sender(outbox, wakeup, client, payload=lambda told: "{}")
    sender.start()
    assert outbox.over.wait(10)
    sender.stop(10.0)
    return outbox.outcome


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_2xx_is_a_success(status: int) -> None:
    assert outcome_of(Answer(status, {}, b"thanks")) == status


@pytest.mark.parametrize(
    ("status", "error", "gone"),
    [
        (302, "the server answered 302, and redirects are not followed", False),
        (404, "the server answered 404", False),
        (410, "the server answered 410", True),
        (500, "the server answered 500", False),
    ],
)
def test_other_answers_are_failures(status: int, error: str, gone: bool) -> None:
    assert outcome_of(Answer(status, {"retry-after": "9"}, b"")) == (error, status, 0.0, gone)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("²", 0.0),
        ("9" * 400, 999_999_999_999.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 99 Foo 9999999 00:00:00 GMT", 0.0),
    ],
)
def test_who_has_too_much_to_do_may_ask_for_time(status: int, asked: str, seconds: float) -> None:
    assert outcome_of(Answer(status, {"retry-after": asked}, b""))[2] == seconds


def test_a_date_to_come_back_at() -> None:
    later = formatdate(time.time() + 600, usegmt=True)
    assert outcome_of(Answer(503, {"retry-after": later}, b""))[2] == pytest.approx(600, abs=60)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UrlNotAllowed("must begin with https://"), "the URL must begin with https://"),
        (FetchFailed("no connection could be made"), "no connection could be made"),
        (RuntimeError("a bug"), "the request could not be made"),
    ],
)
def test_no_answer_is_a_failure(error: Exception, told: str) -> None:
    assert outcome_of(error) == (told, None, 0.0, False)
