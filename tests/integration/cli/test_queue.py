"""`reelq queue`, `reelq prioritize` and `reelq submit --not-before`."""

import json

import pytest

from tests.support.api_objects import JOB_ID, make_job, make_queue
from tests.support.scripted_api import Answer

PAUSED = make_queue(paused=True, pause_reason="power cut", paused_at="2026-01-01T00:00:00.000000Z", paused_by="api")
NOT_QUEUED = {"status": 409, "code": "invalid_state", "detail": f"job {JOB_ID} is running"}


@pytest.fixture
def answering(api):
    api.on("GET", "/v1/admin/queue", Answer(make_queue()))
    api.on("POST", "/v1/admin/queue/pause", Answer(PAUSED))
    api.on("POST", "/v1/admin/queue/resume", Answer(make_queue()))
    api.on("PATCH", f"/v1/admin/jobs/{JOB_ID}", Answer(make_job(priority=2.5)))
    return api


@pytest.mark.parametrize(
    ("arguments", "target", "sent", "words"),
    [
        (["queue"], "GET /v1/admin/queue", None, "oldest    waits 4m 10s"),
        (
            ["queue", "pause", "--reason", "power cut"],
            "POST /v1/admin/queue/pause",
            {"reason": "power cut"},
            "power cut",
        ),
        (["queue", "resume"], "POST /v1/admin/queue/resume", None, "state     open"),
        (
            ["prioritize", JOB_ID, "2.5"],
            f"PATCH /v1/admin/jobs/{JOB_ID}",
            {"priority": 2.5},
            f"{JOB_ID}  priority 2.5, queued: position 2; ",
        ),
    ],
)
def test_a_command_asks_and_shows(reelq, answering, arguments, target, sent, words):
    done = reelq(*arguments)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    ((method, path, body),) = answering.requests
    assert f"{method} {path}" == target
    assert json.loads(body or b"null") == sent
    done = reelq(*arguments, "--json")
    assert json.loads(done.stdout) == answering.answer(method, path).body


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["queue", "pause"], "--reason"),
        (["queue", "resume", "--reason", "a"], "--reason"),
        (["queue", "--reason", "a"], "--reason"),
        (["queue", "stop"], "stop"),
        (["prioritize", JOB_ID, "nan"], "PRIORITY"),
        (["prioritize", JOB_ID, "high"], "PRIORITY"),
        (["prioritize", JOB_ID], "PRIORITY"),
    ],
)
def test_wrong_usage_asks_nothing(reelq, answering, arguments, words):
    done = reelq(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert answering.requests == []


def test_a_refusal_exits_1_and_says_why(reelq, api):
    api.on("PATCH", f"/v1/admin/jobs/{JOB_ID}", Answer(NOT_QUEUED, 409))
    done = reelq("prioritize", JOB_ID, "2", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, NOT_QUEUED)
    assert f"job {JOB_ID} is running" in done.stderr


def test_a_job_may_be_submitted_for_later(reelq, api, image):
    api.job(make_job())
    for start, sent in (("2030-01-31T18:00:00Z", b"2030-01-31T18:00:00Z\r\n"), ("+2h", b"20")):
        assert reelq("submit", str(image), "waves", "--not-before", start).returncode == 0
        assert b'name="not_before"\r\n\r\n' + sent in api.requests[-1][2]
    assert reelq("submit", str(image), "waves", "--not-before", "+soon").returncode == 2
