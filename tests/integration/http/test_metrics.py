"""`GET /metrics`: what it tells, to whom, and while the store is away."""

import os
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from scheduler.errors import StoreUnreachable
from scheduler.keys import Scope
from scheduler.policy import Policy
from scheduler.records import GpuSample, JobError
from tests.support.fleet import GIB, register_gpu
from tests.support.http import URL, Site, check_problem, picture

Sample = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that is told be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)
    monkeypatch.setattr("scheduler.remembered._COST_FACTOR", 0)
    monkeypatch.setattr("app.metrics._LEAST_SECONDS", 0.0)


def parsed(text: str) -> dict[Sample, float]:
    """Every sample by its name and labels; each only once."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


async def scrape(site: Site, headers: Mapping[str, str] | None = None) -> dict[Sample, float]:
    answer = await site.client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parsed(answer.text)


def of(name: str, /, **labels: str) -> Sample:
    return name, frozenset(labels.items())


async def test_an_empty_service_tells_of_its_queue_and_its_gpu(site: Site) -> None:
    told = await scrape(site)
    assert told[of("reelq_jobs", status="queued")] == 0
    assert told[of("reelq_queue_oldest_wait_seconds")] == 0
    assert told[of("reelq_queue_paused")] == 0
    assert told[of("reelq_store_up", store="database")] == told[of("reelq_store_up", store="blobs")] == 1
    assert told[of("reelq_gpu_online", gpu="GPU-0", host="host-0")] == 1
    assert told[of("reelq_disk_free_bytes", disk="blobs")] > 0
    assert of("reelq_disk_required_bytes", disk="database") in told


async def test_jobs_and_attempts_are_told_as_they_go(site: Site) -> None:
    await site.succeeded()
    await site.submit()
    lease = site.gpu.must_claim()
    site.scheduler.leases.fail(lease, JobError("pipeline_error", "it broke"))
    await site.submit()
    site.gpu.must_claim()
    await site.submit()
    site.scheduler.control.pause("maintenance", "test")

    told = await scrape(site)
    counts = {status: told[of("reelq_jobs", status=status)] for status in ("queued", "running", "succeeded", "failed")}
    assert counts == {"queued": 1, "running": 1, "succeeded": 1, "failed": 1}
    model, kind = site.gpu.info.model, site.gpu.info.kind
    run = {"model": model, "plan": "fp16", "gpu_kind": kind}
    assert told[of("reelq_attempts_total", **run, outcome="succeeded")] == 1
    assert told[of("reelq_attempts_total", **run, outcome="failed")] == 1
    assert told[of("reelq_attempt_errors_total", **run, code="pipeline_error")] == 1
    assert told[of("reelq_attempt_errors_total", **run, code="out_of_memory")] == 0
    assert told[of("reelq_attempt_energy_joules_total", **run)] == 3000.0
    assert (
        told[of("reelq_attempt_seconds_count", **run)] == told[of("reelq_attempt_predicted_seconds_count", **run)] == 1
    )
    assert told[of("reelq_attempt_seconds_sum", **run)] == 12.5
    assert told[of("reelq_attempt_predicted_seconds_sum", **run)] > 0
    assert told[of("reelq_attempt_vram_bytes_sum", **run)] == 7 * GIB
    assert told[of("reelq_last_hour_jobs", model=model)] == 2
    assert told[of("reelq_queue_jobs", model=model, plan="fp16")] == 1
    assert told[of("reelq_queue_paused")] == 1
    gpu = {"gpu": "GPU-0", "host": "host-0"}
    assert told[of("reelq_gpu_running_jobs", **gpu)] == 1
    assert told[of("reelq_gpu_overrun_ratio", **gpu)] >= 0


async def test_a_gpu_is_told_with_all_that_is_known_of_it(site: Site) -> None:
    look = GpuSample(6 * GIB, 18 * GIB, utilization_percent=95.0, temperature_celsius=71.0)
    site.scheduler.fleet.sample("GPU-0", look)
    site.scheduler.fleet.drain("GPU-0", "new fan", "test")
    told = await scrape(site)
    gpu = {"gpu": "GPU-0", "host": "host-0"}
    values = {
        name: told[of(f"reelq_gpu_{name}", **gpu)]
        for name in ("memory_total_bytes", "memory_used_bytes", "memory_reserved_bytes", "utilization_ratio")
    }
    assert values == {
        "memory_total_bytes": 24 * GIB,
        "memory_used_bytes": 6 * GIB,
        "memory_reserved_bytes": 6 * GIB,
        "utilization_ratio": 0.95,
    }
    assert told[of("reelq_gpu_temperature_celsius", **gpu)] == 71
    assert told[of("reelq_gpu_ready_workers", **gpu)] == 1
    states = {dict(labels)["state"]: value for (name, labels), value in told.items() if name == "reelq_gpu_state"}
    assert states == {"active": 0, "draining": 1, "drained": 0, "faulted": 0}
    info = site.gpu.info
    assert told[of("reelq_gpu_info", **gpu, name=info.name, kind=info.kind, model=info.model)] == 1


async def test_what_is_not_known_of_a_gpu_is_no_number(site: Site) -> None:
    site.scheduler.fleet.sample("GPU-0", GpuSample(None, None, problem="the driver is away"))
    told = await scrape(site)
    names = {name for name, labels in told if ("gpu", "GPU-0") in labels}
    assert "reelq_gpu_memory_total_bytes" in names
    assert not {"reelq_gpu_memory_used_bytes", "reelq_gpu_utilization_ratio", "reelq_gpu_power_watts"} & names


async def test_a_gpu_that_is_offline_tells_nothing_of_old(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.scheduler.fleet.sample("GPU-0", GpuSample(6 * GIB, 18 * GIB, 50.0))
    monkeypatch.setattr(site.scheduler.fleet, "_policy", Policy(worker_ttl_seconds=-1.0))
    told = await scrape(site)
    gpu = {"gpu": "GPU-0", "host": "host-0"}
    assert told[of("reelq_gpu_online", **gpu)] == 0
    assert of("reelq_gpu_memory_used_bytes", **gpu) not in told


async def test_requests_are_counted_by_their_routes(site: Site) -> None:
    job_id = await site.succeeded()
    await site.client.get(f"/v1/jobs/{job_id}")
    await site.client.get("/v1/jobs/job_00000000000000000000000000")
    await site.client.get(f"/v1/jobs/{job_id}/video")
    await site.client.get("/wp-login.php")
    await site.client.request("BREW", "/v1/jobs")
    told = await scrape(site)
    pid = str(os.getpid())

    def requests(route: str, status: str, method: str = "GET") -> float | None:
        return told.get(of("reelq_http_requests_total", method=method, route=route, status=status, pid=pid))

    assert requests("/v1/jobs", "2xx", "POST") == 1
    assert requests("/v1/jobs/{job_id}", "2xx") == 1
    assert requests("/v1/jobs/{job_id}", "4xx") == 1
    assert requests("/v1/jobs/{job_id}/video", "2xx") == 1
    assert requests("none", "4xx") == 1
    assert told[of("reelq_http_request_seconds_count", method="GET", route="/v1/jobs/{job_id}", pid=pid)] == 2
    assert not any("job_0" in value or "wp-login" in value for _, labels in told for _, value in labels)
    assert {dict(labels)["method"] for name, labels in told if name == "reelq_http_requests_total"} == {
        "GET", "POST", "other"
    }  # fmt: skip
    assert told[of("process_resident_memory_bytes", pid=pid)] > 0
    assert not any(name.endswith("_created") for name, _ in told)


async def test_errors_that_nobody_foresaw_are_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("scheduler.control.QueueControl.state", broken)
    assert (await site.client.get("/v1/admin/queue")).status_code == 500
    monkeypatch.undo()
    told = await scrape(site)
    failed = of("reelq_http_requests_total", method="GET", route="/v1/admin/queue", status="5xx", pid=str(os.getpid()))
    assert told[failed] == 1


async def test_every_front_end_tells_the_same_of_what_the_database_knows(site: Site) -> None:
    await site.succeeded()
    await site.submit()
    other = create_app(site.scheduler, site.settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url=URL) as client:
        theirs = parsed((await client.get("/metrics")).text)
    ours = await scrape(site)
    moving = {"reelq_queue_oldest_wait_seconds", "reelq_gpu_overrun_ratio", "reelq_disk_free_bytes"}

    def stored(told: Mapping[Sample, float]) -> dict[Sample, float]:
        return {key: value for key, value in told.items() if "pid" not in dict(key[1]) and key[0] not in moving}

    assert stored(ours) == stored(theirs)
    assert len(stored(ours)) > 40


async def test_what_was_read_is_used_for_a_second(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.metrics._LEAST_SECONDS", 3600.0)
    app = create_app(site.scheduler, site.settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        before = parsed((await client.get("/metrics")).text)
        await site.submit()
        after = parsed((await client.get("/metrics")).text)
    queued = of("reelq_jobs", status="queued")
    assert (before[queued], after[queued]) == (0, 0)
    assert (await scrape(site))[queued] == 1


async def test_with_keys_only_an_operator_is_told(site: Site) -> None:
    def key(*scopes: Scope) -> dict[str, str]:
        _, secret = site.scheduler.keys.create("k", tenant="acme", scopes=frozenset(scopes), actor="test")
        return {"Authorization": f"Bearer {secret}"}

    reader, submitter, operator = key(Scope.READ), key(Scope.READ, Scope.SUBMIT), key(Scope.ADMIN)
    check_problem(await site.client.get("/metrics"), 401, "unauthorized")
    for headers in (reader, submitter):
        check_problem(await site.client.get("/metrics", headers=headers), 403, "insufficient_scope", "admin")
    assert await scrape(site, operator)


async def test_while_the_database_is_away_the_process_still_tells_of_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StoreUnreachable("the database cannot be used: it restarts")

    await scrape(site)
    monkeypatch.setattr("scheduler.tallies.Tallies.take", away)
    told = await scrape(site)
    assert told[of("reelq_store_up", store="database")] == 0
    assert told[of("reelq_store_up", store="blobs")] == 1
    assert not any(name == "reelq_jobs" for name, _ in told)
    assert any(name == "reelq_http_requests_total" for name, _ in told)
    monkeypatch.undo()
    assert (await scrape(site))[of("reelq_store_up", store="database")] == 1


async def test_names_of_models_and_gpus_are_escaped(site: Site) -> None:
    register_gpu(site.scheduler, 'GPU-"1"\\', model='a "model"\nof\\two lines')
    await site.post(picture())
    told = await scrape(site)
    assert {dict(labels).get("gpu") for name, labels in told if name == "reelq_gpu_info"} == {"GPU-0", 'GPU-"1"\\'}
