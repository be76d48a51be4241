from typing import Any

import pytest

from scheduler.records import GpuSample
from tests.support.fleet import GIB, HALF_WAY
from tests.support.http import Site, check_problem

GPU = "/v1/admin/gpus/GPU-0"


async def drain(site: Site, **body: Any) -> Any:
    return await site.client.post(f"{GPU}/drain", json={"reason": "new fans"} | body)


async def test_a_gpu_shows_its_ledger_worker_and_job(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    site.scheduler.fleet.sample("GPU-0", GpuSample(9 * GIB, 15 * GIB, 97.0, 66.0))
    gpu = (await site.client.get(GPU)).json()
    reserved = 6 * GIB + lease.reserved_bytes
    assert gpu["memory"] == {
        "total_bytes": 24 * GIB,
        "headroom_bytes": GIB,
        "used_bytes": 9 * GIB,
        "free_bytes": 15 * GIB,
        "reserved_bytes": reserved,
        "offered_bytes": min(15 * GIB, 23 * GIB - reserved),
        "problem": None,
    }
    assert (gpu["state"], gpu["reason"], gpu["online"]) == ("active", None, True)
    assert (gpu["utilization_percent"], gpu["temperature_celsius"]) == (97.0, 66.0)
    (worker,) = gpu["workers"]
    assert (worker["ready"], worker["resident_bytes"]) == (True, 6 * GIB)
    (open_lease,) = gpu["leases"]
    assert (open_lease["job_id"], open_lease["stage"]) == (job_id, "denoising")
    assert open_lease["progress"] == {"fraction": 0.5, "step": 25, "steps": 50}


async def test_the_list_has_them_all(site: Site) -> None:
    page = (await site.client.get("/v1/admin/gpus")).json()
    assert (page["object"], page["has_more"]) == ("list", False)
    assert page["data"] == [(await site.client.get(GPU)).json()]


async def test_unknown_memory_is_null_and_says_why(site: Site) -> None:
    site.scheduler.fleet.sample("GPU-0", GpuSample(None, None, problem="the GPU is lost"))
    memory = (await site.client.get(GPU)).json()["memory"]
    assert (memory["used_bytes"], memory["free_bytes"], memory["offered_bytes"]) == (None, None, None)
    assert memory["problem"] == "the GPU is lost"


async def test_drain_empties_a_gpu_and_resume_takes_it_back(site: Site) -> None:
    await site.submit()
    lease = site.gpu.must_claim()
    draining = await drain(site)
    assert (draining.status_code, draining.json()["state"], draining.json()["reason"]) == (200, "draining", "new fans")
    assert draining.json()["actor"] == "api"
    waiting = await site.submit()
    assert site.gpu.claim() is None
    assert "new fans" in waiting["queue"]["wait_reason"]
    site.finish(lease)
    site.scheduler.fleet.worker_gone(site.gpu.workers[0])
    assert (await site.client.get(GPU)).json()["state"] == "drained"
    resumed = await site.client.post(f"{GPU}/resume")
    assert (resumed.json()["state"], resumed.json()["reason"]) == ("active", None)
    assert (await site.client.post(f"{GPU}/resume")).json()["state"] == "active"


async def test_draining_again_only_replaces_the_reason(site: Site) -> None:
    first = (await drain(site)).json()
    second = (await drain(site, reason="new power supply", mode="finish")).json()
    assert second["reason"] == "new power supply"
    assert (second["state"], second["state_changed_at"]) == (first["state"], first["state_changed_at"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ("reason", "required")),
        ({"reason": ""}, ("reason", "empty")),
        ({"reason": "x" * 501}, ("reason", "500")),
        ({"reason": "nul \x00"}, ("reason", "NUL")),
        ({"reason": "a", "mode": "checkpoint"}, ("mode", "finish")),
        ({"reason": "a", "deadline_seconds": 5}, ("deadline_seconds", "not a known field")),
        ({"reason": 7}, ("reason",)),
    ],
)
async def test_bad_drains_are_refused(site: Site, body: dict[str, Any], words: tuple[str, ...]) -> None:
    check_problem(await site.client.post(f"{GPU}/drain", json=body), 422, "invalid_parameter", *words)
    assert (await site.client.get(GPU)).json()["state"] == "active"


@pytest.mark.parametrize("gpu_id", ["GPU-9", "%00", "%F0%9F%A6%8A", "x" * 3000])
async def test_unknown_gpus_are_404(site: Site, gpu_id: str) -> None:
    path = f"/v1/admin/gpus/{gpu_id}"
    check_problem(await site.client.get(path), 404, "not_found", "no GPU")
    check_problem(await site.client.post(f"{path}/drain", json={"reason": "a"}), 404, "not_found")
    check_problem(await site.client.post(f"{path}/resume"), 404, "not_found")
