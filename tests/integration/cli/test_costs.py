"""`reelq costs`."""

import copy
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from app.examples import of_answer
from tests.support.scripted_api import Answer

REPORT = of_answer("get_costs", "CostReport")["an hour"]


@pytest.fixture
def report():
    return copy.deepcopy(REPORT)


def rows(done) -> dict[str, str]:
    """What stands in two columns above the table."""
    assert done.returncode == 0, done.stderr
    head = done.stdout.partition("\n\n")[0]
    return dict(line.split(None, 1) for line in head.splitlines())


def table(done) -> list[list[str]]:
    return [line.split() for line in done.stdout.partition("\n\n")[2].splitlines()]


def test_the_sums_and_a_line_for_each_gpu(reelq, api, report):
    api.on("GET", "/v1/admin/costs", Answer(report))
    done = reelq("costs")
    assert rows(done) == {
        "since": "2030-01-31T18:00:00Z",
        "until": "2030-01-31T19:00:00Z",
        "videos": "20, of 21 attempts",
        "online": "1h 00m, idle for 15m 00s",
        "stages": "denoising 75%, idle 25%",
        "cost": "0.80, 0.04 a video",
        "jobs": "0.60, 0.02 of it for failed attempts",
        "idle": "0.20",
        "month": "576.00 at this pace",
        "energy": "0.24 kWh, 0.072 on top",
    }
    gpu = report["gpus"][0]["gpu"]
    assert table(done) == [
        ["gpu", "hour", "online", "busy", "idle", "cost", "idle", "cost"],
        [gpu, "on_demand", "0.80", "1h", "00m", "45m", "00s", "15m", "00s", "0.80", "0.20"],
    ]
    assert json.loads(reelq("costs", "--json").stdout) == report


@pytest.mark.parametrize(
    ("by", "name"), [("tenant", "default"), ("model", "ali-vilab/i2vgen-xl"), ("day", "2030-01-31")]
)
def test_a_line_for_each_of_what_was_asked_for(reelq, api, report, by, name):
    api.on("GET", "/v1/admin/costs", Answer(report))
    head, line = table(reelq("costs", "--by", by))
    assert head[0] == by
    assert line == [name, "20", "21", "45m", "00s", "1m", "30s", "0.60", "0.02", "0.03"]


def test_without_a_price_there_is_no_money(reelq, api, report):
    for one in (report["total"], report["jobs"], *report["gpus"], *report["tenants"]):
        one |= {name: None for name in one if "cost" in name or name in ("projected_month", "price")}
    api.on("GET", "/v1/admin/costs", Answer(report))
    found = rows(reelq("costs"))
    assert found["cost"] == "no price is known"
    assert not {"jobs", "idle", "month"} & set(found)
    assert table(reelq("costs", "--by", "tenant"))[1][-3:] == ["-", "-", "-"]


def test_nothing_was_online(reelq, api, report):
    api.on("GET", "/v1/admin/costs", Answer(report | {"gpus": []}))
    done = reelq("costs")
    assert "no GPU was online" in done.stderr


def test_times_are_sent_in_full(reelq, api, report):
    api.on("GET", "/v1/admin/costs", Answer(report))
    done = reelq("costs", "--since", "2020-01-31T18:00:00Z", "--until", "1h")
    assert done.returncode == 0, done.stderr
    ((_, target, _),) = api.requests
    sent = parse_qs(urlsplit(target).query)
    assert sent["since"][0].startswith("2020-01-31T")
    assert sent["until"][0].startswith("20")


@pytest.mark.parametrize("arguments", [["--since", "soon"], ["--by", "hour"], ["--since", "1d", "--until", "2d"]])
def test_wrong_usage_asks_nothing(reelq, api, arguments):
    assert reelq("costs", *arguments).returncode == 2
    assert api.requests == []
