"""What ran where and when, as the operator asks for it."""

from typing import Any

import pytest

from scheduler.records import GpuSample
from tests.support.fleet import GIB
from tests.support.http import Site, check_problem

TIMELINE = "/v1/admin/timeline"


async def ask(site: Site, **parameters: str) -> Any:
    return await site.client.get(TIMELINE, params=parameters)


async def test_the_attempts_of_a_gpu_over_its_memory(site: Site) -> None:
    site.scheduler.fleet.sample("GPU-0", GpuSample(9 * GIB, 15 * GIB, 97.0))
    job = await site.submit()
    site.gpu.must_claim()
    answer = await ask(site)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["object"], body["resolution_seconds"]) == ("timeline", 6.0)
    (gpu,) = body["gpus"]
    assert (gpu["gpu"], gpu["host"], gpu["total_bytes"]) == ("GPU-0", "host-0", 24 * GIB)
    (bar,) = gpu["bars"]
    assert (bar["outcome"], bar["outcomes"], bar["attempts"], bar["ended_at"]) == ("running", {"running": 1}, 1, None)
    assert (bar["attempt"]["job"], bar["attempt"]["lease"]) == (job["id"], 1)
    assert gpu["curve"]["step_seconds"] == 15
    assert any(gpu["curve"]["used_bytes"])


async def test_a_gpu_that_nobody_looked_at_has_no_curve(site: Site) -> None:
    with site.scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM gpu_samples")
    (gpu,) = (await ask(site, gpu="GPU-0")).json()["gpus"]
    assert (gpu["bars"], gpu["curve"]) == ([], None)


@pytest.mark.parametrize("gpu", ["GPU-9", "", "\u00fc", "x" * 300, "a\x00b"])
async def test_an_unknown_gpu_is_not_found(site: Site, gpu: str) -> None:
    check_problem(await ask(site, gpu=gpu), 404, "not_found", "no GPU")


@pytest.mark.parametrize(
    ("parameters", "detail"),
    [
        ({"since": "yesterday"}, "since must be an RFC 3339 time"),
        ({"until": "2030-02-30T00:00:00Z"}, "until must be an RFC 3339 time"),
        ({"since": "9999-12-31T23:59:59Z"}, "since must be before until"),
        ({"since": "0001-01-02T00:00:00Z"}, "since must be at most 31 days before until"),
        ({"until": "0001-01-02T00:00:00Z"}, "since must be before until"),
        ({"limit": "3"}, "limit is not a known parameter"),
    ],
)
async def test_what_makes_no_sense_is_refused(site: Site, parameters: dict[str, str], detail: str) -> None:
    check_problem(await ask(site, **parameters), 422, "invalid_parameter", detail)
