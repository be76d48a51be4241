"""Looking up host names: nobody waits for the resolver longer than is allowed, nor for another tenant's names."""

import io
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from app.exchanges import FetchFailed
from app.guarded import GuardedClient
from app.lookups import Lookups, NoRoom

SECONDS = 20.0


def fetch(lookups: Lookups, tenant: str, url: str, *, seconds: float = SECONDS) -> None:
    client = GuardedClient(resolve=partial(lookups.look_up, tenant=tenant))
    client.get(url, timeout_seconds=seconds, max_bytes=1000, into=io.BytesIO())


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The resolver knows nothing of names in `slow.example` until this is set."""
    answers, real = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *more: Any, **options: Any) -> Any:
        return answers.wait(30) and [] if host.endswith("slow.example") else real(host, *more, **options)

    monkeypatch.setattr("app.lookups.socket.getaddrinfo", getaddrinfo)
    yield answers
    answers.set()


def ask_in_vain(lookups: Lookups, tenant: str, count: int) -> None:
    """Have so many look-ups under way that nobody answers."""
    for index in range(count):
        with pytest.raises(TimeoutError):
            lookups.look_up(f"{index}.slow.example", 0.001, tenant=tenant)


@pytest.mark.usefixtures("answering")
def test_a_resolver_that_takes_too_long_is_not_waited_for() -> None:
    with pytest.raises(FetchFailed, match="longer than"):
        fetch(Lookups(), "a", "https://slow.example/", seconds=0.1)


def test_names_that_nobody_answers_for_hold_up_only_their_tenant(answering: threading.Event) -> None:
    lookups = Lookups()
    ask_in_vain(lookups, "mallory", 8)
    with pytest.raises(NoRoom):
        fetch(lookups, "mallory", "https://localhost/", seconds=0.01)
    assert "127.0.0.1" in lookups.look_up("localhost", SECONDS, tenant="alice")
    answering.set()
    assert "127.0.0.1" in lookups.look_up("localhost", SECONDS, tenant="mallory"), "it waits for room"


def test_look_ups_are_limited_as_a_whole(answering: threading.Event) -> None:
    lookups = Lookups()
    for tenant in "abcd":
        ask_in_vain(lookups, tenant, 8)
    with pytest.raises(NoRoom):
        lookups.look_up("localhost", 0.01, tenant="e")
    answering.set()
    assert "127.0.0.1" in lookups.look_up("localhost", SECONDS, tenant="e")


def test_a_thread_that_cannot_be_started_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups()

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        for _ in range(40):
            with pytest.raises(NoRoom):
                lookups.look_up("localhost", 0.01, tenant="a")
    assert "127.0.0.1" in lookups.look_up("localhost", SECONDS, tenant="a")


def test_the_systems_resolver_is_asked() -> None:
    with pytest.raises(FetchFailed, match="no public address"):
        fetch(Lookups(), "a", "https://localhost/")
