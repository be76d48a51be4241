"""API keys: a secret that is shown once, and opens what its key says until it is revoked or has expired."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from scheduler.errors import InvalidParameter, NotFound, StorageFull
from scheduler.keys import Key, Keys, Scope
from scheduler.service import Scheduler
from tests.support.databases import Clock
from tests.support.fleet import snapshot

BOTH = frozenset({Scope.SUBMIT, Scope.READ})


def make(scheduler: Scheduler, name: str = "phone", **changes: Any) -> tuple[Key, str]:
    return scheduler.keys.create(name, **({"scopes": BOTH, "actor": "me"} | changes))


def told(scheduler: Scheduler, subject: str) -> list[tuple[str, str | None, str | None, dict[str, Any]]]:
    return [(one.type, one.tenant, one.actor, dict(one.data)) for one in scheduler.events.read(subject=subject)]


def test_a_key_is_what_was_asked_for(scheduler: Scheduler, clock: Clock) -> None:
    key, secret = make(scheduler, tenant="acme", expires_at=clock.seconds + 60)

    assert re.fullmatch(r"key_[0-9a-z]{26}", key.id)
    assert re.fullmatch(r"rq_[A-Za-z0-9_-]{43}", secret)
    assert key == Key(key.id, "acme", "phone", BOTH, clock.seconds, clock.seconds + 60, None, None)
    assert scheduler.keys.list() == [key]


def test_the_secret_is_stored_nowhere(scheduler: Scheduler) -> None:
    _, secret = make(scheduler)
    assert secret[3:] not in str(snapshot(scheduler))


def test_two_secrets_differ(scheduler: Scheduler) -> None:
    assert make(scheduler)[1] != make(scheduler)[1]


def test_the_secret_opens_its_own_key_and_no_other_does(scheduler: Scheduler) -> None:
    key, secret = make(scheduler)
    make(scheduler, "other")

    found = scheduler.keys.authenticate(secret)
    assert found is not None
    assert (found.id, found.tenant, found.scopes) == (key.id, "default", BOTH)
    for wrong in ("", "rq_", secret[:-1], secret + "A", secret.swapcase(), f" {secret}", "rq_" + 43 * "é", 10**6 * "a"):
        assert scheduler.keys.authenticate(wrong) is None


def test_a_revoked_key_opens_nothing(scheduler: Scheduler, clock: Clock) -> None:
    key, secret = make(scheduler)
    clock.advance(5)

    assert scheduler.keys.revoke(key.id, "me").revoked_at == clock.seconds
    assert scheduler.keys.authenticate(secret) is None

    clock.advance(5)
    assert scheduler.keys.revoke(key.id, "somebody else").revoked_at == clock.seconds - 5, "it stays as it is"
    assert [one[0] for one in told(scheduler, key.id)] == ["key.created", "key.revoked"]


def test_an_expired_key_opens_nothing(scheduler: Scheduler, clock: Clock) -> None:
    _, secret = make(scheduler, expires_at=clock.seconds + 60)
    clock.advance(59.9)
    assert scheduler.keys.authenticate(secret) is not None
    clock.advance(0.1)
    assert scheduler.keys.authenticate(secret) is None


def test_its_last_use_is_known_to_the_minute(scheduler: Scheduler, clock: Clock) -> None:
    key, secret = make(scheduler)
    used = []
    for _ in range(4):
        clock.advance(30)
        scheduler.keys.authenticate(secret)
        used.append(scheduler.keys.list()[0].used_at)

    first = key.created_at + 30
    assert used == [first, first, first + 60, first + 60]


def test_a_store_that_takes_no_writes_keeps_nobody_out(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a full disk would end all polls."""
    _, secret = make(scheduler)

    @contextmanager
    def full() -> Iterator[None]:
        raise StorageFull("no room left")
        yield

    write: Callable[[], AbstractContextManager[None]] = full
    monkeypatch.setattr(scheduler.database, "write", write)
    assert scheduler.keys.authenticate(secret) is not None


def test_once_a_key_was_made_that_is_so_for_ever(scheduler: Scheduler) -> None:
    fresh = Keys(scheduler.database)
    assert not scheduler.keys.any_made()

    key, _ = make(scheduler)
    assert scheduler.keys.any_made()
    scheduler.keys.revoke(key.id, "me")
    assert scheduler.keys.any_made()
    assert fresh.any_made()


def test_each_tenants_keys_are_listed_oldest_first(scheduler: Scheduler) -> None:
    ours, theirs, ours_too = (make(scheduler, tenant=tenant)[0] for tenant in ("acme", "other", "acme"))
    assert {one.id for one in scheduler.keys.list()} == {ours.id, theirs.id, ours_too.id}
    assert [one.id for one in scheduler.keys.list("acme")] == sorted([ours.id, ours_too.id])
    assert scheduler.keys.list("nobody") == []


def test_who_made_and_who_revoked_it_is_in_the_log(scheduler: Scheduler) -> None:
    key, _ = make(scheduler, tenant="acme", scopes=[Scope.ADMIN])
    scheduler.keys.revoke(key.id, "you")
    assert told(scheduler, key.id) == [
        ("key.created", "acme", "me", {"name": "phone", "scopes": ["admin"], "expires_at": None}),
        ("key.revoked", "acme", "you", {"name": "phone"}),
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": 101 * "a"}, "name"),
        ({"name": "\x00"}, "name"),
        ({"tenant": "Acme"}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a/b"}, "tenant"),
        ({"tenant": "-a"}, "tenant"),
        ({"tenant": 64 * "a"}, "tenant"),
        ({"tenant": "a\n"}, "tenant"),
        ({"scopes": []}, "scopes"),
        ({"expires_at": 1_800_000_000.0}, "expires_at"),
    ],
)
def test_what_cannot_be_a_key_is_refused(scheduler: Scheduler, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        make(scheduler, **changes)
    assert refused.value.field == field
    assert not Keys(scheduler.database).any_made()


def test_a_key_that_is_not_there_cannot_be_revoked(scheduler: Scheduler) -> None:
    with pytest.raises(NotFound, match="no key key_0"):
        scheduler.keys.revoke("key_0", "me")
