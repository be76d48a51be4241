"""`reelq advise`."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from app.examples import of_answer
from tests.support.scripted_api import Answer

REPORT = of_answer("get_advice", "AdviceReport")["a week"]


def test_the_sentence_and_what_it_rests_on(reelq, api):
    api.on("GET", "/v1/admin/advice", Answer(REPORT))
    done = reelq("advise")
    assert done.returncode == 0, done.stderr
    first, _, *rest = done.stdout.splitlines()
    assert first == REPORT["advice"]
    shown = dict(line.split(None, 1) for line in rest if not line.startswith(" "))
    assert shown["sure"] == "high: it rests on 7.0 days of samples and 4120 attempts"
    assert shown["load"] == "95%"
    assert shown["growth"] == "high, +24 % a month, measured"
    assert shown["gpus"].endswith("compute_bound, memory 92%, utilisation 95%, at work 98%")
    assert shown["steps"] == "Do attempts often run out of memory? no (1%, limit 2%)"
    assert shown["refused"] == "1536x1536x64: 3 jobs, unschedulable at submit, needed up to 61.0 GiB"
    assert "leaner_plan: peak 22.1 GiB to 15.3 GiB, a video 1m 18s to 1m 25s, for 90% of the attempts" in done.stdout
    cards = shown["cards"]
    assert cards.startswith("the last 2000 arrivals on the fleet as it is: up to 46 videos an hour, wait 1m 35s, 95%")
    assert "with NVIDIA L40S: up to 276 videos an hour, wait 0.4 s, 95% within 3.0 s, 0.045 a video" in done.stdout
    assert json.loads(reelq("advise", "--json").stdout) == REPORT


def test_what_is_not_known_is_said(reelq, api):
    empty = REPORT | {
        "load": None, "gpus": [], "refused": [], "remedies": [], "comparison": None,
        "growth": {"high": None, "monthly": None, "source": "measured", "days": 0},
        "steps": [REPORT["steps"][0] | {"answer": None, "value": None}],
    }  # fmt: skip
    api.on("GET", "/v1/admin/advice", Answer(empty))
    done = reelq("advise")
    assert done.returncode == 0, done.stderr
    assert "Do attempts often run out of memory? not known" in done.stdout
    assert "not known, measured" in done.stdout


def test_what_is_sent(reelq, api):
    api.on("GET", "/v1/admin/advice", Answer(REPORT))
    assert reelq("advise", "--since", "2d", "--growth", "high", "--card-price", "700").returncode == 0
    ((_, target, _),) = api.requests
    sent = parse_qs(urlsplit(target).query)
    assert (sent["growth"], sent["card_price"]) == (["high"], ["700.0"])
    assert sent["since"][0].startswith("20")


@pytest.mark.parametrize("arguments", [["--since", "soon"], ["--card-price", "-1"]])
def test_wrong_usage_asks_nothing(reelq, api, arguments):
    assert reelq("advise", *arguments).returncode == 2
    assert api.requests == []
