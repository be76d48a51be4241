"""The operator's side: drain, resume, cancel, and what the GPU list shows, against real running jobs."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.service import LONG, TINY, Service, alive, wait_for

pytestmark = pytest.mark.acceptance


def drain(service: Service, **body: object) -> dict[str, Any]:
    answer = service.client.post(f"/v1/admin/gpus/{service.gpu()['id']}/drain", json={"reason": "new fans", **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_drained_device_leaves_jobs_queued_and_resume_runs_them(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    running = service.submit(TINY | {"num_inference_steps": 60, "num_frames": 8})["id"]
    service.wait_denoising(running)
    worker = service.worker()
    drain(service)
    assert service.gpu()["state"] == "draining"
    waiting = service.submit(TINY)["id"]
    assert service.wait(running)["status"] == "succeeded", "finish mode lets the running job end"
    wait_for(lambda: service.gpu()["state"] == "drained", "the GPU to be drained", service.log)
    assert not alive(worker), "drained means that no process of ours holds its memory"
    job = service.job(waiting)
    assert job["status"] == "queued"
    assert "drained" in job["queue"]["wait_reason"]
    assert "new fans" in job["queue"]["wait_reason"]

    assert service.stop() == 0
    service.start(ready=False)  # a drain survives a restart
    assert (service.gpu()["state"], service.gpu()["reason"]) == ("drained", "new fans")
    assert service.process("gpu-worker") is None
    resumed = service.client.post(f"/v1/admin/gpus/{service.gpu()['id']}/resume")
    assert resumed.json()["state"] == "active"
    assert service.wait(waiting)["status"] == "succeeded"


def test_a_checkpoint_drain_empties_the_device_at_once_and_ends_by_itself(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    running = service.submit(LONG)["id"]
    service.wait_denoising(running)
    worker = service.worker()
    (job,) = drain(service, mode="checkpoint", dry_run=True)["preview"]["jobs"]
    assert (job["job_id"], job["ending"]) == (running, "released")
    assert job["lost_seconds"] > 0
    assert service.gpu()["state"] == "active"

    drain(service, mode="checkpoint")
    wait_for(lambda: service.gpu()["state"] == "drained", "the GPU to be drained", service.log)
    assert not alive(worker)
    assert (service.job(running)["status"], service.job(running)["attempts"]) == ("queued", 0)

    assert drain(service, resume_after_seconds=1)["state"] == "drained"
    assert service.wait_denoising(running)["attempts"] == 1
    gpu = service.gpu()
    assert (gpu["state"], gpu["actor"]) == ("active", "drain of local: resume_after")


def test_drain_needs_a_reason_and_a_known_gpu(service: Service) -> None:
    gpu = service.gpu()["id"]
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 501}):
        refused = service.client.post(f"/v1/admin/gpus/{gpu}/drain", json=body)
        assert refused.status_code == 422
        assert "reason" in refused.text
    assert service.client.post("/v1/admin/gpus/GPU-none/drain", json={"reason": "x"}).status_code == 404
    assert service.gpu()["state"] == "active"


def test_cancel_stops_a_running_job_at_the_next_step(service: Service) -> None:
    job_id = service.submit(LONG)["id"]
    service.wait_denoising(job_id)
    first = service.client.post(f"/v1/jobs/{job_id}/cancel")
    assert first.status_code == 200
    job = service.wait(job_id)
    assert (job["status"], job["video"]) == ("cancelled", None)
    again = service.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert sorted(path.name for path in (service.data_dir / "blobs" / "jobs" / job_id).iterdir()) == ["image.ppm"]
    assert service.wait(service.submit()["id"])["status"] == "succeeded", "the worker goes on"


def test_cancel_of_a_queued_job_ends_it_at_once(service: Service) -> None:
    running = service.submit(LONG)["id"]
    service.wait_denoising(running)
    queued = service.submit()["id"]
    assert service.job(queued)["queue"]["position"] == 1
    assert service.client.post(f"/v1/jobs/{queued}/cancel").json()["status"] == "cancelled"
    service.client.post(f"/v1/jobs/{running}/cancel")
    service.wait(running)


def test_gpu_list_shows_memory_leases_and_worker(service: Service) -> None:
    job_id = service.submit(LONG)["id"]
    service.wait_denoising(job_id)
    gpu = wait_for(lambda: gpu if (gpu := service.gpu())["memory"]["used_bytes"] else None, "a sample")
    assert gpu["state"] == "active"
    memory = gpu["memory"]
    assert memory["total_bytes"] == 3 * 2**30
    assert 0 < memory["used_bytes"] < memory["total_bytes"]
    assert memory["reserved_bytes"] > 0
    assert [lease["job_id"] for lease in gpu["leases"]] == [job_id]
    assert gpu["workers"][0]["pid"] == service.worker().pid
    assert "noise" in gpu["model"]
    service.client.post(f"/v1/jobs/{job_id}/cancel")
    service.wait(job_id)
