"""What the sender makes of answers and errors, without a network."""

import threading
import time
from email.utils import formatdate
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.exchanges import FetchFailed
from app.guarded import Answer
from app.lookups import NoRoom
from app.urls import UrlNotAllowed
from app.webhooks import Payloads, Sender
from scheduler.deliveries import Due
from scheduler.fan_out import Told
from scheduler.states import JobStatus

DUE = Due("msg_1", "we_1", "acme", "https://hooks.example/a", "{}", ("whsec_" + "YWFh" * 8,), "job_1", None)


class Outbox:
    """Has one delivery to send, and keeps what came of it."""

    def __init__(self) -> None:
        self.due = [DUE]
        self.outcome: Any = None
        self.over = threading.Event()

    def tell(self, payload: Any, operator: Any) -> int:
        return 0

    def claim_due(self, limit: int, lease_seconds: float, busy: dict[str, str], each: int) -> list[Due]:
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
    sender = Sender(outbox, outbox, wakeup, lambda tenant: client, payload=lambda told: "{}")
    sender.start()
    assert outbox.over.wait(10)
    sender.stop(10.0)
    return outbox.outcome


def told(*, has_video: bool) -> Told:
    return Told("job.succeeded", 1.0, "job_1", JobStatus.SUCCEEDED, "m", {}, None, has_video, has_preview=has_video)


def test_that_there_are_no_urls_is_warned_of_once() -> None:
    with capture_logs() as logs:
        payloads = Payloads(None)
        payloads(told(has_video=False))
        assert logs == []
        assert '"url":null' in payloads(told(has_video=True))
        payloads(told(has_video=True))
        assert '"url":"https://h/v1/jobs/job_1/video"' in Payloads("https://h/")(told(has_video=True))
    (warning,) = logs
    assert (warning["log_level"], "public_url" in warning["event"]) == ("warning", True)


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


def test_what_was_not_sent_for_want_of_room_is_no_try() -> None:
    outbox: Any = Outbox()
    wakeup: Any = Wakeup()
    client: Any = Client(NoRoom("too many host names are being looked up"))
    asked = threading.Event()

    def client_for(_tenant: str) -> Any:
        asked.set()
        return client

    sender = Sender(outbox, outbox, wakeup, client_for, payload=lambda told: "{}")
    sender.start()
    assert asked.wait(10)
    sender.stop(10.0)
    assert outbox.outcome is None


def test_a_thread_that_cannot_be_started_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox: Any = Outbox()
    wakeup: Any = Wakeup()
    client: Any = Client(Answer(204, {}, b""))
    start, refused = threading.Thread.start, threading.Event()

    def first_fails(thread: threading.Thread) -> None:
        if thread.name == "webhook" and not refused.is_set():
            outbox.due = [DUE]  # its lease is over at once
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", first_fails)
    sender = Sender(outbox, outbox, wakeup, lambda tenant: client, payload=lambda told: "{}")
    sender.start()
    assert refused.wait(10)
    wakeup.wake()
    assert outbox.over.wait(10)
    sender.stop(10.0)
    assert outbox.outcome == 204
    assert sender._sending == {}
