"""`reelq capacity`."""

import json

from app.examples import of_answer
from tests.support.scripted_api import Answer

FOUND = of_answer("get_capacity", "CapacityStatus")["one more comes"]
CAPACITY = "/v1/admin/capacity"
(STARTED,) = FOUND["calls"]
LONG_AGO = "2020-01-01T00:00:00Z"


def test_what_is_wanted_and_was_done(reelq, api):
    failed = STARTED | {
        "action": "stop",
        "status": "pending",
        "host": "node-1",
        "gpus": ["GPU-a", "GPU-b"],
        "asked_at": LONG_AGO,
        "tries": 3,
        "error": "it ended with exit code 7",
    }
    api.on("GET", CAPACITY, Answer(FOUND | {"since": LONG_AGO, "calls": [failed, STARTED | {"asked_at": LONG_AGO}]}))
    done = reelq("capacity")
    assert done.returncode == 0, done.stderr
    first, why, cooldown, stop, start = done.stdout.splitlines()
    assert first == "wanted 2, online 1, at least 0 and at most 4"
    assert why.startswith("  for ")
    assert why.endswith(FOUND["reason"])
    assert cooldown == "  what was started may come until 2030-01-31T18:39:02Z"
    assert stop.split()[:2] == ["stop", "pending"]
    assert "node-1 (GPU-a, GPU-b)" in stop
    assert stop.endswith("; try 3: it ended with exit code 7")
    assert start.split()[:2] == ["start", "done"]
    assert "1 more" in start


def test_as_json(reelq, api):
    api.on("GET", CAPACITY, Answer(FOUND))
    assert json.loads(reelq("capacity", "--json").stdout) == FOUND


def test_before_the_first_look_and_without_a_hook(reelq, api):
    nothing = FOUND | {"wanted": None, "calls": []}
    api.on("GET", CAPACITY, Answer(nothing))
    assert reelq("capacity").stderr == "nothing is decided yet\n"
    api.on("GET", CAPACITY, Answer(nothing | {"enabled": False}))
    assert reelq("capacity").stderr == "nothing starts or stops GPUs here: see the setting capacity_command\n"
