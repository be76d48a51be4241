"""A GPU over time, as the operator asks for it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.records import GpuSample
from tests.support.fleet import GIB
from tests.support.http import Site, check_problem

SAMPLES = "/v1/admin/samples"
LOOK = GpuSample(9 * GIB, 15 * GIB, 97.0, 66.0, foreign_bytes=GIB, power_watts=312.5)


async def ask(site: Site, **parameters: str) -> Any:
    return await site.client.get(SAMPLES, params={"gpu": "GPU-0"} | parameters)


def around_now() -> dict[str, str]:
    now = datetime.now(UTC)
    since, until = now - timedelta(minutes=10), now + timedelta(minutes=1)
    return {"since": since.isoformat(), "until": until.isoformat()}


async def test_what_was_seen_of_a_gpu(site: Site) -> None:
    site.scheduler.fleet.sample("GPU-0", LOOK)
    answer = await ask(site, **around_now())
    assert answer.status_code == 200
    body = answer.json()
    assert (body["object"], body["gpu"], body["step_seconds"]) == ("list", "GPU-0", 5)
    seen = [point for point in body["data"] if point["power_watts"]]
    (point,) = seen
    assert datetime.fromisoformat(point["at"]).timestamp() % 5 == 0
    assert point["power_watts"] == {"mean": 312.5, "max": 312.5}
    assert point["temperature_celsius"] == {"mean": 66.0, "max": 66.0}
    assert point["foreign_bytes"] == {"mean": GIB, "max": GIB}
    assert point["problems"] == 0


async def test_by_default_it_is_the_last_hour(site: Site) -> None:
    body = (await ask(site)).json()
    assert body["step_seconds"] == 10


async def test_what_was_not_measured_is_null(site: Site) -> None:
    with site.scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM gpu_samples")
    site.scheduler.fleet.sample("GPU-0", GpuSample(None, None, problem="the GPU is lost"))
    (point,) = (await ask(site, **around_now())).json()["data"]
    assert (point["samples"], point["problems"]) == (1, 1)
    assert (point["used_bytes"], point["power_watts"], point["hot_share"]) == (None, None, None)
    assert point["reserved_bytes"] == {"mean": 6 * GIB, "max": 6 * GIB}


@pytest.mark.parametrize(
    "times",
    [
        {"since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"},
        {"since": "9999-12-31T23:59:59Z"},
        {"since": "2020-02-01T00:00:00Z", "until": "2020-01-01T00:00:00Z"},
    ],
)
async def test_a_time_without_samples_is_an_empty_list(site: Site, times: dict[str, str]) -> None:
    answer = await ask(site, **times)
    assert (answer.status_code, answer.json()["data"]) == (200, [])


async def test_a_gpu_that_has_left_is_still_shown(site: Site) -> None:
    with site.scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM workers")
        conn.exec_driver_sql("DELETE FROM gpus")
    assert (await ask(site, **around_now())).json()["data"]


@pytest.mark.parametrize("gpu", ["GPU-9", "", "a b", "\u00fc", "x" * 300])
async def test_an_unknown_gpu_is_not_found(site: Site, gpu: str) -> None:
    check_problem(await ask(site, gpu=gpu), 404, "not_found", "no GPU")


@pytest.mark.parametrize(
    ("parameters", "detail"),
    [
        ({"since": "yesterday"}, "since must be an RFC 3339 time"),
        ({"until": "2030-02-30T00:00:00Z"}, "until must be an RFC 3339 time"),
        ({"from": "2030-01-01T00:00:00Z"}, "from is not a known parameter"),
    ],
)
async def test_what_makes_no_sense_is_refused(site: Site, parameters: dict[str, str], detail: str) -> None:
    check_problem(await ask(site, **parameters), 422, "invalid_parameter", detail)


async def test_any_time_of_the_calendar_may_be_asked_for(site: Site) -> None:
    answer = await ask(site, since="0001-01-01T00:00:00+14:00", until="9999-12-31T23:59:59-14:00")
    assert answer.status_code == 200
    assert answer.json()["step_seconds"] % 3600 == 0
