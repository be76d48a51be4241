"""Who gets in, and what a request needs."""

from collections.abc import Sequence
from typing import Any

import pytest

from app.door import LOCAL, REMEMBER_SECONDS, Door, Principal, check_scope, needed
from app.errors import RequestError
from scheduler.errors import NotFound
from scheduler.keys import Key, Scope
from scheduler.limits import NO_LIMITS, TenantLimits

SECRET = "rq_" + "a" * 43
KEY = Key("key_1", "acme", "ci", frozenset({Scope.READ}), 0.0, None, None, None)


class Keys:
    """The keys that there are, and how often was asked."""

    def __init__(self, **known: Key) -> None:
        self.known: dict[str, Key] = known
        self.made = bool(known)
        self.asked: list[str] = []

    def any_made(self) -> bool:
        self.asked.append("any")
        return self.made

    def authenticate(self, secret: str) -> Key | None:
        self.asked.append(secret)
        return self.known.get(secret)


class Sessions:
    """A session is named after the secret of its key."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def key(self, token: str) -> Key | None:
        self._keys.asked.append(token)
        return self._keys.known.get(token.removeprefix("session of "))


class Tenants:
    limits = TenantLimits(max_queued=3)

    def in_force(self, tenant: str) -> TenantLimits:
        return self.limits if tenant == "acme" else NO_LIMITS


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def door(keys: Keys, clock: Clock | None = None) -> Door:
    stand_ins: Sequence[Any] = (keys, Sessions(keys), Tenants())
    return Door(*stand_ins, clock=clock or Clock())


async def refused(at: Door, authorization: str | None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await at.admit(authorization)
    return caught.value


async def test_without_any_key_everyone_is_local_whatever_they_say() -> None:
    open_door = door(Keys())
    for said in (None, "Bearer x", "nonsense"):
        assert (await open_door.admit(said)).principal is LOCAL
    assert not open_door.closed


async def test_a_key_tells_tenant_scopes_limits_and_name() -> None:
    visitor = await door(Keys(**{SECRET: KEY})).admit(f"Bearer {SECRET}")
    assert visitor.principal == Principal("acme", frozenset({Scope.READ}), "key_1 (ci)", "key_1")
    assert visitor.limits == Tenants.limits


@pytest.mark.parametrize("said", [None, "", "Bearer", "Bearer  ", f"Basic {SECRET}", SECRET])
async def test_no_key_is_401_with_a_challenge(said: str | None) -> None:
    error = await refused(door(Keys(**{SECRET: KEY})), said)
    assert (error.status_code, error.code) == (401, "unauthorized")
    assert error.headers is not None
    assert error.headers["WWW-Authenticate"] == 'Bearer realm="reelq"'


async def test_a_wrong_key_is_401_and_says_so_without_repeating_it() -> None:
    error = await refused(door(Keys(**{SECRET: KEY})), "bearer rq_wrong")
    assert error.headers is not None
    assert "invalid_token" in error.headers["WWW-Authenticate"]
    assert "rq_wrong" not in error.detail


async def test_what_the_database_says_is_asked_once_a_second() -> None:
    keys, clock = Keys(**{SECRET: KEY}), Clock()
    at = door(keys, clock)
    for _ in range(5):
        await at.admit(f"Bearer {SECRET}")
        await refused(at, "Bearer rq_wrong")
    assert keys.asked == ["any", SECRET, "rq_wrong"]
    keys.known.clear()
    clock.now += REMEMBER_SECONDS
    await refused(at, f"Bearer {SECRET}")


async def test_the_first_key_closes_the_door_for_good() -> None:
    keys, clock = Keys(), Clock()
    at = door(keys, clock)
    await at.admit(None)
    keys.made = True
    clock.now += REMEMBER_SECONDS
    await refused(at, None)
    keys.made = False
    clock.now += 1000
    await refused(at, None)
    assert at.closed


async def test_a_flood_of_wrong_keys_is_not_all_remembered() -> None:
    keys = Keys(**{SECRET: KEY})
    at = door(keys)
    for number in range(5000):
        await refused(at, f"Bearer rq_{number}")
    assert len(at._known) <= 4096


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/jobs", Scope.READ),
        ("HEAD", "/v1/jobs/job_1/video", Scope.READ),
        ("POST", "/v1/jobs", Scope.SUBMIT),
        ("DELETE", "/v1/jobs/job_1", Scope.SUBMIT),
        ("POST", "/v1/estimates", Scope.READ),
        ("POST", "/v1/videos", Scope.SUBMIT),
        ("GET", "/v1/webhooks", Scope.READ),
        ("GET", "/v1/webhooks/secret", Scope.SUBMIT),
        ("GET", "/v1/admin/gpus", Scope.ADMIN),
        ("POST", "/v1/admin/gpus/x/drain", Scope.ADMIN),
        ("GET", "/v1/a-route-of-tomorrow", Scope.READ),
        ("PATCH", "/v1/a-route-of-tomorrow", Scope.SUBMIT),
    ],
)
def test_what_a_request_needs(method: str, path: str, scope: Scope) -> None:
    assert needed(method, path) is scope


def test_too_little_is_403_and_names_what_is_missing() -> None:
    reader = Principal("acme", frozenset({Scope.READ}), "key_1 (ci)", "key_1")
    assert check_scope(reader, "GET", "/v1/jobs") is Scope.READ
    with pytest.raises(RequestError, match="submit") as caught:
        check_scope(reader, "POST", "/v1/jobs")
    assert (caught.value.status_code, caught.value.code) == (403, "insufficient_scope")


def test_the_operators_calls_on_jobs_do_not_tell_others_whether_there_is_one() -> None:
    reader = Principal("acme", frozenset({Scope.READ, Scope.SUBMIT}), "key_1 (ci)", "key_1")
    with pytest.raises(NotFound, match=r"no job job_1$"):
        check_scope(reader, "POST", "/v1/admin/jobs/job_1/preempt")
