"""`reelq alerts`."""

import json

import pytest

from app.examples import of_answer
from tests.support.scripted_api import Answer

PAGE = of_answer("list_alerts", "Page_Alert_")["page"]
ALERTS = "/v1/admin/alerts"
SECRET = {"object": "webhook_secret", "secret": "whsec_bmV3", "in_force": ["whsec_bmV3", "whsec_b2xk"]}


def test_what_is_wrong_and_what_was(reelq, api):
    (alert,) = PAGE["data"]
    ended = alert | {"rule": "gpu_lost", "severity": "critical", "resolved_at": "2020-01-01T00:00:00.000000Z"}
    api.on("GET", ALERTS, Answer(PAGE | {"data": [alert | {"since": "2020-01-01T00:00:00Z"}, ended]}))
    done = reelq("alerts")
    assert done.returncode == 0, done.stderr
    first, what, second, _ = done.stdout.splitlines()
    assert first.split()[:4] == ["warning", "gpu_memory_high", alert["subject"], "for"]
    assert what == "  " + alert["message"]
    assert second.split()[:4] == ["critical", "gpu_lost", alert["subject"], "ended"]
    assert second.endswith(" ago")


def test_as_json(reelq, api):
    api.on("GET", ALERTS, Answer(PAGE))
    assert json.loads(reelq("alerts", "--json").stdout) == PAGE


def test_nothing_is_wrong(reelq, api):
    api.on("GET", ALERTS, Answer(PAGE | {"data": []}))
    done = reelq("alerts")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no alerts, now or in the last day\n"


@pytest.mark.parametrize(
    ("option", "method", "path"), [("--secret", "GET", "/secret"), ("--rotate", "POST", "/secret/rotate")]
)
def test_the_secret_that_they_are_signed_with(reelq, api, option, method, path):
    api.on(method, ALERTS + path, Answer(SECRET))
    assert reelq("alerts", option).stdout == "whsec_bmV3\n"
    api.on(method, ALERTS + path, Answer(SECRET))
    assert json.loads(reelq("alerts", option, "--json").stdout) == SECRET
