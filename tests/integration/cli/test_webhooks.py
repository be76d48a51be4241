"""`reelq webhooks` with its commands."""

import json

import pytest
from typer.testing import CliRunner

from app.cli.webhooks import group
from tests.support.api_objects import JOB_ID
from tests.support.scripted_api import Answer

ENDPOINT = {
    "id": "we_01jd0000000000000000000000",
    "object": "webhook_endpoint",
    "tenant": "default",
    "url": "https://hooks.example/a",
    "state": "disabled",
    "reason": "the receiver answered that it is gone for good",
    "failing_since": "2026-01-01T00:00:00.000000Z",
    "disabled_at": "2026-01-01T00:00:00.000000Z",
    "created_at": "2026-01-01T00:00:00.000000Z",
}
DELIVERY = {
    "id": "msg_01jd0000000000000000000000",
    "object": "webhook_delivery",
    "endpoint": ENDPOINT["id"],
    "url": ENDPOINT["url"],
    "job": JOB_ID,
    "type": "job.succeeded",
    "status": "pending",
    "held": False,
    "tries": 2,
    "created_at": "2026-01-01T00:00:00.000000Z",
    "next_try_at": "2026-01-01T00:05:05.000000Z",
    "delivered_at": None,
    "given_up_at": None,
}
FIRST, SECOND = (
    {"number": number, "at": f"2026-01-01T00:00:0{number}.000000Z", "seconds": 0.25, "status": status, "error": error}
    for number, status, error in ((1, None, "no connection could be made"), (2, 500, "the server answered 500"))
)
DETAIL = DELIVERY | {"payload": {"type": "job.succeeded"}, "log": [FIRST, SECOND]}
SECRET = {"object": "webhook_secret", "secret": "whsec_bmV3", "in_force": ["whsec_bmV3", "whsec_b2xk"]}
ENABLED = ENDPOINT | {"state": "enabled", "reason": None, "failing_since": None, "disabled_at": None}


def page(*found):
    return {"object": "list", "data": list(found), "has_more": False, "next_cursor": None}


@pytest.fixture
def run(settings, api):
    api.on("GET", "/v1/webhooks", Answer(page(ENDPOINT)))
    api.on("POST", f"/v1/webhooks/{ENDPOINT['id']}/enable", Answer(ENABLED))
    api.on("GET", "/v1/webhooks/deliveries", Answer(page(DELIVERY)))
    api.on("GET", f"/v1/webhooks/deliveries/{DELIVERY['id']}", Answer(DETAIL))
    api.on("POST", f"/v1/webhooks/deliveries/{DELIVERY['id']}/redeliver", Answer(DETAIL))
    api.on("GET", "/v1/webhooks/secret", Answer(SECRET))
    api.on("POST", "/v1/webhooks/secret/rotate", Answer(SECRET))
    runner = CliRunner(env=settings)
    return lambda *arguments: runner.invoke(group(), arguments)


COMMANDS = [
    (["list"], "GET /v1/webhooks", f"{ENDPOINT['id']}  disabled  https://hooks.example/a\n  the receiver answered"),
    (["enable", ENDPOINT["id"]], f"POST /v1/webhooks/{ENDPOINT['id']}/enable", f"{ENDPOINT['id']}  enabled"),
    (
        ["deliveries"],
        "GET /v1/webhooks/deliveries?limit=20",
        f"{DELIVERY['id']}  pending  job.succeeded  hooks.example  {JOB_ID}",
    ),
    (
        ["deliveries", "--job", JOB_ID, "--status", "pending", "--limit", "5"],
        f"GET /v1/webhooks/deliveries?job={JOB_ID}&status=pending&limit=5",
        DELIVERY["id"],
    ),
    (
        ["deliveries", DELIVERY["id"]],
        f"GET /v1/webhooks/deliveries/{DELIVERY['id']}",
        "0.25 s  no connection could be made\n          2026-01-01T00:00:02.000000Z  0.25 s  the server answered 500",
    ),
    (
        ["redeliver", DELIVERY["id"]],
        f"POST /v1/webhooks/deliveries/{DELIVERY['id']}/redeliver",
        "next try  2026-01-01T00:05:05.000000Z",
    ),
    (["secret"], "GET /v1/webhooks/secret", "whsec_bmV3"),
    (["secret", "--rotate"], "POST /v1/webhooks/secret/rotate", "whsec_bmV3"),
]


@pytest.mark.parametrize(("arguments", "request_line", "words"), COMMANDS)
def test_each_command_asks_and_shows(run, api, arguments, request_line, words):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert words in done.output
    ((method, path, _),) = api.requests
    assert f"{method} {path}" == request_line


@pytest.mark.parametrize(("arguments", "request_line", "words"), COMMANDS)
def test_json_is_what_the_api_answered(run, api, arguments, request_line, words):
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    method, _, path = request_line.partition(" ")
    assert json.loads(done.stdout) == api.answer(method, path.partition("?")[0]).body


def test_what_waits_for_a_disabled_endpoint_is_held(run, api):
    held = DELIVERY | {"held": True, "next_try_at": None, "url": f"https://{'long.' * 20}example/a"}
    api.on("GET", "/v1/webhooks/deliveries", Answer(page(held, DELIVERY)))
    _, first, second = run("deliveries").stdout.splitlines()
    assert first.split()[1:4] == ["held", "job.succeeded", f"{'long.' * 20}example"]
    assert second.split()[1] == "pending"


def test_nothing_to_show(run, api):
    api.on("GET", "/v1/webhooks", Answer(page()))
    api.on("GET", "/v1/webhooks/deliveries", Answer(page()))
    assert "no webhook was sent yet" in run("list").stderr
    assert "no deliveries" in run("deliveries").stderr


def test_a_refusal_is_one_line(run, api):
    problem = {"status": 409, "code": "invalid_state", "detail": "endpoint we_1 is disabled: enable it first"}
    api.on("POST", f"/v1/webhooks/deliveries/{DELIVERY['id']}/redeliver", Answer(problem, 409))
    done = run("redeliver", DELIVERY["id"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "enable it first" in done.stderr


def test_a_status_that_does_not_exist_is_refused(run, api):
    assert run("deliveries", "--status", "lost").exit_code == 2
    assert api.requests == []
