"""The exit codes that `reelq --help` promises, and one clear line with each."""

import json
import socket

import pytest

from tests.support.scripted_api import Answer

PROBLEM = {"status": 422, "code": "invalid_parameter", "detail": "width must be divisible by 8, not 65"}


@pytest.fixture
def nobody():
    """The URL of a port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_an_unreachable_server_is_3_and_names_the_url_and_the_remedy(reelq_process, nobody):
    done = reelq_process("jobs", REELQ_URL=nobody)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"reelq: cannot reach the server at {nobody} (")
    assert "`reelq up`" in line


def test_a_refusal_is_1_with_the_servers_words(reelq_process, api):
    api.on("POST", "/v1/estimates", Answer(PROBLEM, 422))
    done = reelq_process("estimate", "--set", "width=65")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "reelq: width must be divisible by 8, not 65 (invalid_parameter)\n"


def test_a_refusal_with_json_is_the_problem(reelq, api):
    api.on("POST", "/v1/estimates", Answer(PROBLEM, 422))
    done = reelq("estimate", "--set", "width=65", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == PROBLEM


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", "none.png", "waves"], "none.png"),
        (["submit", "sea.png", "waves", "--set", "num_frames"], "not name=value"),
        (["submit", "sea.png", "waves", "--set", "num_frames=many"], "whole number"),
        (["submit", "sea.png", "waves", "-o", "none/out.mp4"], "cannot write"),
        (["drain", "GPU-1"], "--reason"),
        (["drain", "--reason", "why"], "GPU"),
        (["drain", "GPU-1", "--reason", "why", "--mode", "kill"], "checkpoint"),
        (["drain", "GPU-1", "--reason", "why", "--deadline", "soon"], "'soon' is no duration: say 90s, 5m, 2h or 1d"),
        (["jobs", "--status", "lost"], "lost"),
        (["jobs", "--since", "yesterday"], "'yesterday' is no time: say 2h for two hours ago"),
        (["submit", "sea.png", "waves", "--deadline", "soon"], "or +2h for two hours from now"),
        (["submit", "sea.png", "waves", "--priority", "high"], "must be a number, not 'high'"),
        (["submit", "sea.png", "waves", "--seed", "1.5"], "must be a whole number, not '1.5'"),
        (["jobs", "--url", "localhost:8000"], "http://127.0.0.1:8000"),
        (["frobnicate"], "frobnicate"),
        (["up", "--port", "70000"], "setting port (REELQ_PORT) must be less than or equal to 65535"),
        (["up", "--device", "abacus"], "abacus"),
    ],
)
def test_wrong_usage_is_2_and_reaches_no_server(reelq, api, image, arguments, words):
    done = reelq(*arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert api.requests == []


def test_exit_codes_are_documented(reelq_process):
    for arguments in (["--help"], ["submit", "--help"]):
        done = reelq_process(*arguments)
        assert done.returncode == 0
        text = " ".join(done.stdout.split())
        assert "3 the server cannot be reached" in text


def test_version(reelq):
    assert reelq("--version").stdout == reelq("version").stdout
    assert json.loads(reelq("version", "--json").stdout)["version"] in reelq("version").stdout
