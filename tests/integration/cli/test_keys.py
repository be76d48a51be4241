"""`reelq keys` and `reelq tenants`: on the database itself, beside whatever serves it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.keys import Scope
from scheduler.limits import TenantLimits
from scheduler.service import Scheduler
from scheduler.settings import StoreSettings


@pytest.fixture
def store(tmp_path: Path) -> Callable[[], Scheduler]:
    """Return a function that opens the database the commands use."""
    return lambda: Scheduler.open(StoreSettings(data_dir=tmp_path / "data"))


def test_a_key_that_is_made_works_until_it_is_revoked(reelq: Any, store: Callable[[], Scheduler]) -> None:
    done = reelq("keys", "create", "phone", "--tenant", "acme", "--expires", "90d")
    assert done.returncode == 0
    secret = done.stdout.strip()
    assert "cannot be shown again" in done.stderr
    assert "It works until 20" in done.stderr
    assert secret not in done.stderr
    with store() as scheduler:
        key = scheduler.keys.authenticate(secret)
    assert key is not None
    assert (key.name, key.tenant, key.scopes) == ("phone", "acme", {Scope.SUBMIT, Scope.READ})
    assert key.expires_at == pytest.approx(key.created_at + 90 * 86_400, abs=60)

    revoked = reelq("keys", "revoke", key.id)
    assert (revoked.returncode, revoked.stdout) == (0, f"{key.id}  phone, of tenant acme: revoked\n")
    with store() as scheduler:
        assert scheduler.keys.authenticate(secret) is None


def test_json_has_the_secret_once(reelq: Any) -> None:
    made = json.loads(reelq("keys", "create", "ops", "--scope", "read", "--scope", "admin", "--json").stdout)
    secret = made.pop("secret")
    listed = reelq("keys", "list", "--json").stdout
    assert json.loads(listed) == {"data": [made]}
    assert secret not in listed
    assert made["scopes"] == ["admin", "read"]
    assert made["expires_at"] is made["revoked_at"] is made["used_at"] is None
    assert json.loads(reelq("keys", "revoke", made["id"], "--json").stdout)["revoked_at"]


def test_the_list_says_what_still_works(reelq: Any) -> None:
    assert "there are no keys" in reelq("keys", "list").stderr
    for name, tenant in (("phone", "acme"), ("laptop", "other")):
        reelq("keys", "create", name, "--tenant", tenant)
    key_id = json.loads(reelq("keys", "list", "--tenant", "acme", "--json").stdout)["data"][0]["id"]
    reelq("keys", "revoke", key_id)

    _, *lines = reelq("keys", "list").stdout.splitlines()
    assert [line.split() for line in lines] == [
        [key_id, "acme", "phone", "read,", "submit", "revoked", "never"],
        [lines[1].split()[0], "other", "laptop", "read,", "submit", "works", "never"],
    ]
    assert "laptop" not in reelq("keys", "list", "--tenant", "acme").stdout


def test_a_key_says_until_when_it_works(reelq: Any) -> None:
    without = reelq("keys", "create", "phone", "--expires", "5")
    assert (without.returncode, without.stdout) == (2, "")
    assert "'5' has no unit: say 5s, 5m, 5h or 5d" in " ".join(without.stderr.replace("│", " ").split())
    assert "It works until revoked." in reelq("keys", "create", "a").stderr
    for name, expires in (("b", "5h"), ("c", "5d")):
        assert reelq("keys", "create", name, "--expires", expires).returncode == 0
    states = {key["name"]: key["expires_at"] for key in json.loads(reelq("keys", "list", "--json").stdout)["data"]}
    listed = reelq("keys", "list").stdout
    assert f"until {states['b'].partition('.')[0]}Z " in listed
    assert f"until {states['c'].partition('T')[0]} " in listed


def test_limits_are_set_one_by_one_and_removed(reelq: Any, store: Callable[[], Scheduler]) -> None:
    every = [
        "--max-queued", "100", "--max-running", "2", "--max-priority", "1.5", "--share", "2",
        "--submits-per-minute", "60", "--requests-per-minute", "600",
    ]  # fmt: skip
    assert reelq("tenants", "set", "acme", *every).returncode == 0
    changed = reelq("tenants", "set", "acme", "--max-queued", "none", "--share", "3")
    assert changed.stdout.splitlines()[1].split()[0:4] == ["acme", "0", "0", "of"]
    with store() as scheduler:
        assert scheduler.tenants.get("acme").limits == TenantLimits(3.0, None, 2, 1.5, 60, 600)
        (*_, event) = scheduler.events.read()
    assert (event.type, event.actor) == ("tenant.changed", "cli")


def test_tenants_are_listed_with_the_limits_in_force(reelq: Any) -> None:
    reelq("tenants", "set", "acme", "--max-running", "2")
    found = json.loads(reelq("tenants", "list", "--json", REELQ_TENANT_MAX_QUEUED="7").stdout)["data"]
    assert [one["id"] for one in found] == ["acme", "default"]
    assert found[0]["limits"]["max_queued"] is None
    assert (found[0]["in_force"]["max_queued"], found[0]["in_force"]["max_running"]) == (7, 2)
    header, *lines = reelq("tenants", "list").stdout.splitlines()
    assert header.split() == ["tenant", "queued", "running", "priority", "share", "submits", "requests"]
    assert [line.split()[0] for line in lines] == ["acme", "default"]


def test_another_folder_can_be_named(reelq: Any, tmp_path: Path) -> None:
    assert reelq("keys", "create", "phone", "--data", str(tmp_path / "other")).returncode == 0
    assert "there are no keys" in reelq("keys", "list").stderr
    assert "phone" in reelq("keys", "list", "--data", str(tmp_path / "other")).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["keys", "create", "x", "--scope", "root"], 2, "--scope must be one of submit, read, admin, not 'root'"),
        (["keys", "create", "x", "--tenant", "A b"], 2, "tenant must be 1 to 63 small letters"),
        (["keys", "create", " "], 2, "name must not be empty"),
        (["keys", "create", "x", "--expires", "9999999999d"], 2, "expires_at must be"),
        (["keys", "revoke", "key_0"], 1, "no key key_0"),
        (["tenants", "set", "acme"], 2, "say which limit"),
        (["tenants", "set", "acme", "--max-queued", "many"], 2, "--max-queued must be a whole number or none"),
        (["tenants", "set", "acme", "--max-queued", "-1"], 2, "max_queued must be from 0"),
        (["tenants", "set", "acme", "--share", "nan"], 2, "share must be from"),
        (["tenants", "set", "Acme", "--share", "1"], 2, "tenant must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(reelq: Any, arguments: list[str], code: int, words: str) -> None:
    done = reelq(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"reelq: {words}")


def test_settings_and_stores_that_cannot_be_used_are_one_line(reelq: Any, tmp_path: Path) -> None:
    wrong = reelq("keys", "list", REELQ_TAU_SECONDS="0")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    (tmp_path / "file").write_text("not a folder")
    gone = reelq("tenants", "list", "--data", str(tmp_path / "file" / "data"), REELQ_TAU_SECONDS="600")
    assert gone.returncode == 1
    assert gone.stderr.startswith("reelq: cannot use the data directory ")


@pytest.mark.parametrize("command", ["keys", "tenants"])
def test_help_says_where_it_works(reelq: Any, command: str) -> None:
    text = " ".join(reelq(command, "--help").stdout.split())
    assert "on the database itself, not through a server" in text
