"""Never lose work: whatever is killed, every job ends once, with no manual step but a restart of the whole."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scheduler.blobs.local import LocalBlobs
from scheduler.service import Scheduler
from scheduler.settings import StoreSettings
from tests.support.service import LONG, TINY, Service, alive, command_line, wait_for

pytestmark = pytest.mark.acceptance
SOME_SECONDS = TINY | {"num_inference_steps": 60, "num_frames": 8}


def history(data_dir: Path, job_id: str) -> list[tuple[int, str | None]]:
    with Scheduler.open(StoreSettings(data_dir=data_dir)) as scheduler:
        return [(attempt.number, attempt.outcome) for attempt in scheduler.queue.attempts(job_id)]


def result_files(data_dir: Path, job_id: str) -> list[str]:
    root = LocalBlobs(data_dir / "blobs").root / "jobs" / job_id
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_killed_worker_costs_an_attempt_not_the_job(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    job_id = service.submit(SOME_SECONDS)["id"]
    service.wait_denoising(job_id)
    killed = service.worker()
    killed.kill()
    job = service.wait(job_id)
    assert (job["status"], job["attempts"]) == ("succeeded", 2), job
    assert history(service.data_dir, job_id) == [(1, "expired"), (2, "succeeded")]
    assert result_files(service.data_dir, job_id) == [
        "2/preview.webp",
        "2/thumbnail.jpg",
        "2/video.mp4",
        "image.ppm",
    ]
    assert service.worker().pid != killed.pid
    assert service.client.get(f"/v1/jobs/{job_id}/video").status_code == 200
    other = service.submit(SOME_SECONDS)["id"]
    assert service.wait(other)["video"]["sha256"] == job["video"]["sha256"], "the crash changed no pixel"


def test_killing_everything_loses_nothing_acknowledged(new_service: Callable[..., Service]) -> None:
    service = new_service(lease_seconds=2).start()
    running = service.submit(SOME_SECONDS)["id"]
    waiting = [service.submit(TINY, seed=seed)["id"] for seed in range(4)]
    service.wait_denoising(running)
    service.kill_all()
    service.start()
    jobs = {job["id"]: job for job in service.client.get("/v1/jobs", params={"limit": 100}).json()["data"]}
    assert set(jobs) == {running, *waiting}
    for job_id in (running, *waiting):
        assert service.wait(job_id)["status"] == "succeeded"
        assert len([o for _, o in history(service.data_dir, job_id) if o == "succeeded"]) == 1


def test_sigterm_gives_the_job_back_and_leaves_no_process(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    job_id = service.submit(LONG)["id"]
    service.wait_denoising(job_id)
    assert service.stop() == 0, service.log()
    assert service.family() == []
    assert history(service.data_dir, job_id) == [(1, "released")]
    service.start()
    job = service.wait_denoising(job_id)
    assert job["attempts"] == 1, "a release burns no attempt"


def test_children_end_when_their_parent_is_killed(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    job_id = service.submit(LONG)["id"]
    service.wait_denoising(job_id)
    children = [process for process in service.family() if process.pid != service.main.pid]
    assert {("supervisor" in command_line(p), "gpu-worker" in command_line(p)) for p in children} == {
        (True, False),
        (False, True),
    }
    service.main.kill()
    service.main.wait(30)
    wait_for(lambda: not any(alive(child) for child in children), "the children to end", service.log)
    service.start()  # at once: nothing of the earlier start is met
    assert service.wait_denoising(job_id)["attempts"] == 1


def test_killed_supervisor_is_replaced(new_service: Callable[..., Service]) -> None:
    service = new_service(lease_seconds=2).start()
    job_id = service.submit(SOME_SECONDS)["id"]
    service.wait_denoising(job_id)
    supervisor, worker = service.process("supervisor"), service.worker()
    assert isinstance(supervisor, psutil.Process)
    supervisor.kill()
    assert service.wait(job_id)["status"] == "succeeded"
    assert not alive(worker)
    assert service.worker().pid != worker.pid


def test_a_second_start_on_the_same_data_changes_nothing_and_takes_over_when_the_first_ends(
    new_service: Callable[..., Service],
) -> None:
    first = new_service().start()
    second = new_service(cpu_memory_bytes=2**30)
    second.environment["REELQ_DATA_DIR"] = str(first.data_dir)
    second.start(ready=False)
    wait_for(lambda: "holds the lock" in second.log(), "the second supervisor to wait", second.log)
    assert first.gpu()["memory"]["total_bytes"] == 3 * 2**30
    assert second.wait(second.submit()["id"])["status"] == "succeeded", "its front end serves the same queue"
    assert first.stop() == 0
    wait_for(lambda: second.process("gpu-worker"), "the second supervisor to take over", second.log)
    assert second.wait(second.submit()["id"])["status"] == "succeeded"


def test_a_killed_worker_leaves_no_scratch_files(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    job_id = service.submit(TINY | {"num_frames": 128})["id"]
    scratch = service.data_dir / "scratch"
    wait_for(lambda: any(path.is_dir() for path in scratch.glob("*/*")), "a video to be made there", service.log)
    service.worker().kill()
    assert service.wait(job_id)["status"] == "succeeded"
    assert list(scratch.glob("*/*")) == []
