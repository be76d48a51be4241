from datetime import datetime
from typing import Any

import pytest

from scheduler.records import GpuSample
from scheduler.states import Directive
from tests.support.fleet import GIB, HALF_WAY, register_gpu
from tests.support.http import Site, check_problem

GPU = "/v1/admin/gpus/GPU-0"


async def drain(site: Site, **body: Any) -> Any:
    return await site.client.post(f"{GPU}/drain", json={"reason": "new fans"} | body)


async def test_a_gpu_shows_its_ledger_worker_and_job(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    site.scheduler.fleet.sample("GPU-0", GpuSample(9 * GIB, 15 * GIB, 97.0, 66.0, foreign_bytes=GIB, power_watts=312.5))
    gpu = (await site.client.get(GPU)).json()
    reserved = 6 * GIB + lease.reserved_bytes
    assert gpu["memory"] == {
        "total_bytes": 24 * GIB,
        "headroom_bytes": GIB,
        "used_bytes": 9 * GIB,
        "free_bytes": 15 * GIB,
        "foreign_bytes": GIB,
        "reserved_bytes": reserved,
        "offered_bytes": min(15 * GIB, 23 * GIB - reserved),
        "problem": None,
    }
    assert (gpu["state"], gpu["reason"], gpu["online"]) == ("active", None, True)
    assert (gpu["utilization_percent"], gpu["temperature_celsius"], gpu["power_watts"]) == (97.0, 66.0, 312.5)
    (worker,) = gpu["workers"]
    assert (worker["ready"], worker["resident_bytes"]) == (True, 6 * GIB)
    assert gpu["plans"] == ["fp16"]
    (open_lease,) = gpu["leases"]
    assert (open_lease["job_id"], open_lease["lane"], open_lease["stage"]) == (job_id, 0, "denoising")
    assert open_lease["progress"] == {"fraction": 0.5, "step": 25, "steps": 50}
    assert (open_lease["predicted_seconds"] > 0, open_lease["release_requested"]) == (True, False)
    assert (gpu["drain"], gpu["reservation"], gpu["preview"]) == (None, None, None)


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
    assert draining.json()["actor"] == "local"
    waiting = await site.submit()
    assert site.gpu.claim() is None
    assert "new fans" in waiting["queue"]["wait_reason"]
    site.finish(lease)
    site.scheduler.fleet.worker_gone(site.gpu.workers[0])
    assert (await site.client.get(GPU)).json()["state"] == "drained"
    resumed = await site.client.post(f"{GPU}/resume")
    assert (resumed.json()["state"], resumed.json()["reason"]) == ("active", None)
    assert (await site.client.post(f"{GPU}/resume")).json()["state"] == "active"


def seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


async def test_draining_again_replaces_what_was_said(site: Site) -> None:
    first = (await drain(site, deadline_seconds=60)).json()
    second = (await drain(site, reason="new power supply", resume_after_seconds=90)).json()
    assert second["reason"] == "new power supply"
    assert (second["state"], second["state_changed_at"]) == (first["state"], first["state_changed_at"])
    assert first["drain"]["deadline_at"] is not None
    assert (second["drain"]["deadline_at"], second["drain"]["mode"]) == (None, "finish")
    assert seconds(second["drain"]["resume_at"]) == pytest.approx(seconds(second["drain"]["asked_at"]) + 90)
    assert (await site.client.post(f"{GPU}/resume")).json()["drain"] is None


async def test_a_checkpoint_asks_for_the_jobs(site: Site) -> None:
    await site.submit()
    lease = site.gpu.must_claim()
    draining = (await drain(site, mode="checkpoint", deadline_seconds=5, on_deadline="kill")).json()
    assert (draining["drain"]["mode"], draining["drain"]["on_deadline"]) == ("checkpoint", "kill")
    assert [one["release_requested"] for one in draining["leases"]] == [True]
    assert site.scheduler.leases.directive(lease) is Directive.RELEASE


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    finishing = (await drain(site, dry_run=True)).json()
    (job,) = finishing["preview"]["jobs"]
    assert (job["job_id"], job["ending"], job["lost_seconds"]) == (job_id, "finishes", 0.0)
    assert (
        finishing["preview"]["empty_in_seconds"]
        == job["in_seconds"]
        == pytest.approx(finishing["leases"][0]["predicted_seconds"] / 2)
    )
    killing = (await drain(site, dry_run=True, deadline_seconds=0.5, on_deadline="kill")).json()
    (job,) = killing["preview"]["jobs"]
    assert (job["ending"], job["in_seconds"]) == ("killed", 0.5)
    assert job["lost_seconds"] > 0.5
    gpu = (await site.client.get(GPU)).json()
    assert (gpu["state"], gpu["drain"], gpu["preview"]) == ("active", None, None)


async def test_many_gpus_at_once_or_none(site: Site) -> None:
    register_gpu(site.scheduler, "GPU-1", workers=0)
    both = ["GPU-1", "GPU-0", "GPU-1"]

    async def states() -> list[str]:
        return [gpu["state"] for gpu in (await site.client.get("/v1/admin/gpus")).json()["data"]]

    unknown = await site.client.post("/v1/admin/drain", json={"gpus": ["GPU-1", "GPU-9"], "reason": "rack 4 moves"})
    check_problem(unknown, 404, "not_found", "no GPU GPU-9")
    preview = await site.client.post("/v1/admin/drain", json={"gpus": both, "reason": "why", "dry_run": True})
    assert [gpu["preview"]["jobs"] for gpu in preview.json()["data"]] == [[], []]
    assert await states() == ["active", "active"]

    drained = (await site.client.post("/v1/admin/drain", json={"gpus": both, "reason": "rack 4 moves"})).json()
    assert drained["object"] == "list"
    assert [(gpu["id"], gpu["state"]) for gpu in drained["data"]] == [("GPU-1", "drained"), ("GPU-0", "draining")]

    unknown = await site.client.post("/v1/admin/resume", json={"gpus": ["GPU-1", "GPU-9"]})
    check_problem(unknown, 404, "not_found", "no GPU GPU-9")
    assert await states() == ["draining", "drained"]
    resumed = (await site.client.post("/v1/admin/resume", json={"gpus": both})).json()
    assert [(gpu["id"], gpu["state"]) for gpu in resumed["data"]] == [("GPU-1", "active"), ("GPU-0", "active")]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"reason": "why"}, "gpus is required"),
        ({"reason": "why", "gpus": []}, "gpus"),
        ({"reason": "why", "gpus": "GPU-0"}, "gpus"),
        ({"reason": "why", "gpus": [7]}, "gpus.0"),
        ({"reason": "why", "gpus": ["GPU-0"] * 1001}, "1000"),
        ({"gpus": ["GPU-0"]}, "reason is required"),
    ],
)
async def test_bad_lists_are_refused(site: Site, body: dict[str, Any], word: str) -> None:
    check_problem(await site.client.post("/v1/admin/drain", json=body), 422, "invalid_parameter", word)
    if "reason is" not in word:
        body = {key: value for key, value in body.items() if key != "reason"}
        check_problem(await site.client.post("/v1/admin/resume", json=body), 422, "invalid_parameter", word)
    assert (await site.client.get(GPU)).json()["state"] == "active"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ("reason", "required")),
        ({"reason": ""}, ("reason", "empty")),
        ({"reason": "x" * 501}, ("reason", "500")),
        ({"reason": "nul \x00"}, ("reason", "NUL")),
        ({"reason": "a", "mode": "at once"}, ("mode", "'finish' or 'checkpoint'")),
        ({"reason": "a", "on_deadline": "finish"}, ("on_deadline", "'checkpoint' or 'kill'")),
        ({"reason": "a", "deadline": 5}, ("deadline", "not a known field")),
        ({"reason": "a", "deadline_seconds": 0}, ("deadline_seconds", "more than 0", "2592000")),
        ({"reason": "a", "deadline_seconds": -5.5}, ("deadline_seconds", "-5.5")),
        ({"reason": "a", "deadline_seconds": 2_592_001}, ("deadline_seconds", "30 days")),
        ({"reason": "a", "deadline_seconds": 10**400}, ("deadline_seconds",)),
        ({"reason": "a", "deadline_seconds": "5m"}, ("deadline_seconds",)),
        ({"reason": "a", "deadline_seconds": True}, ("deadline_seconds",)),
        ({"reason": "a", "resume_after_seconds": 0}, ("resume_after_seconds", "more than 0")),
        ({"reason": "a", "resume_after_seconds": 1e300}, ("resume_after_seconds", "30 days")),
        (
            {"reason": "a", "deadline_seconds": 60, "resume_after_seconds": 60},
            ("resume_after_seconds", "more than deadline_seconds, 60"),
        ),
        ({"reason": "a", "deadline_seconds": 0, "dry_run": True}, ("deadline_seconds",)),
        ({"reason": "a", "dry_run": "yes"}, ("dry_run",)),
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
