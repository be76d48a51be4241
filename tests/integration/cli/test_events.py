"""`reelq events`: a line for each event, to the end or on and on."""

import json
import signal
import subprocess
import sys
import threading

import pytest

from tests.support.api_objects import JOB_ID, make_page
from tests.support.scripted_api import Answer
from tests.support.service import wait_for

EVENTS = "/v1/admin/events"


def make_event(position=1, **changes):
    return {
        "position": position,
        "object": "event",
        "at": "2026-01-01T00:00:00.123456Z",
        "type": "job.requeued",
        "subject": JOB_ID,
        "tenant": "default",
        "actor": None,
        "data": {"lease": 3, "outcome": "released", "error": None},
        **changes,
    }


def pages(api, *answers):
    api.on("GET", EVENTS, *(Answer(answer) for answer in answers))


@pytest.fixture
def following(environment, tmp_path):
    """Start `reelq events --follow …` as a process with its output in pipes."""
    command = [sys.executable, "-m", "app.cli", "events", "--follow"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_a_line_says_when_what_to_whom_by_whom_and_more(reelq, api):
    drain = {"type": "gpu.draining", "subject": "GPU-0", "actor": "api"}
    hostile = {"reason": "fans\x1b[2J\nloud", "jobs": ["a"], "ä": "ü"}
    pages(api, make_page(make_event(), make_event(2, **drain, data=hostile), next_cursor="2"))
    done = reelq("events")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"2026-01-01T00:00:00Z  job.requeued          {JOB_ID}  -  lease=3 outcome=released",
        '2026-01-01T00:00:00Z  gpu.draining          GPU-0  api  reason=fans [2J loud jobs=["a"] ä=ü',
    ]


def test_all_pages_are_shown_and_json_is_a_line_each(reelq, api):
    first = make_page(make_event(8), make_event(9), has_more=True, next_cursor="9")
    pages(api, first, make_page(make_event(10), next_cursor="10"))
    done = reelq("events", "--after", "7", "--job", JOB_ID, "--json")
    assert [json.loads(line)["position"] for line in done.stdout.splitlines()] == [8, 9, 10]
    asked = [path for _, path, _ in api.requests]
    assert asked == [f"{EVENTS}?after={after}&subject={JOB_ID}" for after in (7, 9)]


def test_nothing_has_happened(reelq, api):
    pages(api, make_page(next_cursor="0"))
    done = reelq("events")
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_no_longer_kept_is_1(reelq, api):
    problem = {"status": 410, "code": "events_expired", "detail": "events 2 to 9 are no longer kept"}
    api.on("GET", EVENTS, Answer(problem, 410))
    done = reelq("events", "--after", "1")
    assert done.returncode == 1
    assert done.stderr == "reelq: events 2 to 9 are no longer kept (events_expired)\n"


def test_following_shows_what_comes_and_says_where_it_stopped(api, following):
    end = make_page(next_cursor="5")
    pages(api, make_page(make_event(4), next_cursor="4"), make_page(make_event(5), next_cursor="5"), end)
    for _ in range(2):
        assert JOB_ID in following.stdout.readline()
    wait_for(lambda: len(api.requests) > 2, "the next poll")
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "go on from here with --after 5" in err


def test_a_reader_that_has_seen_enough_is_no_error(api, following):
    pages(api, make_page(make_event(), next_cursor="1"))
    following.stdout.readline()
    following.stdout.close()
    watchdog = threading.Timer(30, following.kill)
    watchdog.start()
    err = following.stderr.read()
    watchdog.cancel()
    assert (following.wait(30), err) == (0, "")
