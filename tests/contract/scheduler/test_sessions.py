"""Sessions: a browser's token stands for its key, for a week at most, and is stored nowhere."""

import re

import pytest

from scheduler.keys import Scope
from scheduler.service import Scheduler
from scheduler.sessions import SESSION_SECONDS
from tests.support.databases import Clock
from tests.support.fleet import snapshot


@pytest.fixture
def secret(scheduler: Scheduler) -> str:
    return scheduler.keys.create("phone", tenant="acme", scopes=[Scope.READ], actor="me")[1]


def begun(scheduler: Scheduler, secret: str) -> str:
    token = scheduler.sessions.begin(secret)
    assert token is not None
    return token


def test_a_session_is_its_key(scheduler: Scheduler, secret: str) -> None:
    token = begun(scheduler, secret)
    assert re.fullmatch(r"rs_[A-Za-z0-9_-]{43}", token)
    key = scheduler.sessions.key(token)
    assert key is not None
    assert (key.tenant, key.name, key.scopes) == ("acme", "phone", frozenset({Scope.READ}))


def test_neither_the_token_nor_the_key_is_stored(scheduler: Scheduler, secret: str) -> None:
    token = begun(scheduler, secret)
    stored = str(snapshot(scheduler))
    assert token[3:] not in stored
    assert secret[3:] not in stored


def test_what_is_no_key_begins_none(scheduler: Scheduler, secret: str) -> None:
    for wrong in ("", "rq_", secret[:-1], begun(scheduler, secret)):
        assert scheduler.sessions.begin(wrong) is None


def test_what_is_no_token_is_no_session(scheduler: Scheduler, secret: str) -> None:
    token = begun(scheduler, secret)
    for wrong in ("", "rs_", token[:-1], token.swapcase(), secret, "rs_" + 43 * "a", 10**6 * "a"):
        assert scheduler.sessions.key(wrong) is None


def test_a_token_is_no_key(scheduler: Scheduler, secret: str) -> None:
    assert scheduler.keys.authenticate(begun(scheduler, secret)) is None


def test_it_ends_by_itself_and_leaves_no_row(scheduler: Scheduler, secret: str, clock: Clock) -> None:
    token = begun(scheduler, secret)
    clock.advance(SESSION_SECONDS - 1)
    assert scheduler.sessions.key(token) is not None
    clock.advance(1)
    assert scheduler.sessions.key(token) is None
    begun(scheduler, secret)
    assert len(snapshot(scheduler)["sessions"]) == 1


def test_a_key_has_so_many_and_the_oldest_goes(
    scheduler: Scheduler, secret: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.sessions.MOST", 2)
    _, other = scheduler.keys.create("tablet", scopes=[Scope.READ], actor="me")
    elsewhere, *tokens = begun(scheduler, other), begun(scheduler, secret)
    for _ in range(2):
        clock.advance(1)
        tokens.append(begun(scheduler, secret))
    assert [scheduler.sessions.key(token) is not None for token in tokens] == [False, True, True]
    assert scheduler.sessions.key(elsewhere) is not None


def test_it_ends_when_it_is_ended(scheduler: Scheduler, secret: str) -> None:
    mine, other = begun(scheduler, secret), begun(scheduler, secret)
    scheduler.sessions.end(mine)
    scheduler.sessions.end(mine)
    assert scheduler.sessions.key(mine) is None
    assert scheduler.sessions.key(other) is not None


def test_it_opens_nothing_once_its_key_is_revoked(scheduler: Scheduler, secret: str) -> None:
    token = begun(scheduler, secret)
    scheduler.keys.revoke(scheduler.keys.list()[0].id, "me")
    assert scheduler.sessions.key(token) is None


def test_its_use_is_its_keys_use(scheduler: Scheduler, secret: str, clock: Clock) -> None:
    token = begun(scheduler, secret)
    clock.advance(3600)
    scheduler.sessions.key(token)
    assert scheduler.keys.list()[0].used_at == clock.seconds
