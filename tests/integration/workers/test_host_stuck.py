"""Real workers that have to leave or be replaced: drained in a hurry, hung in a job, or stopped.

One host serves all tests here; each leaves it with a supervisor and a ready worker.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from scheduler.ids import new_id
from scheduler.records import NewJob
from scheduler.states import DrainMode, GpuState, OnDeadline
from tests.support.service import wait_for
from tests.support.worker_host import LONG, TINY, WorkerHost

_ENDLESS = replace(LONG, num_inference_steps=500)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[WorkerHost]:
    host = WorkerHost(tmp_path_factory.mktemp("host"), models_dir, lease_seconds=2.0, hang_seconds=6.0)
    try:
        host.start()
        host.ready_worker()
        yield host
    finally:
        host.close()


def submit_stuck(host: WorkerHost) -> tuple[str, Path]:
    """Submit a job whose image is on a file system that does not answer; returns its id and the image's path."""
    job_id, (model,) = new_id("job"), host.scheduler.queue.models()
    image = host.settings.data_dir / "blobs" / "jobs" / job_id / "image.png"
    image.parent.mkdir(parents=True)
    os.mkfifo(image)
    host.scheduler.queue.submit(NewJob(job_id, model, "a cat", TINY, f"jobs/{job_id}/image.png"))
    return job_id, image


def test_a_checkpoint_drain_gets_the_job_back_and_frees_the_gpu(host: WorkerHost) -> None:
    worker, gpu_id = host.ready_worker(), host.gpu().info.id
    job_id = host.submit(_ENDLESS)
    host.denoising(job_id)
    host.scheduler.fleet.drain(gpu_id, "new fans", "operator", mode=DrainMode.CHECKPOINT)
    wait_for(lambda: host.gpu().state is GpuState.DRAINED, "the GPU to be drained", host.log)
    assert not psutil.pid_exists(worker.pid)
    job = host.scheduler.queue.get(job_id)
    assert (job.status, job.attempts, host.outcomes(job_id)) == ("queued", 0, ["released"])
    assert host.files(job_id) == [f"1/checkpoint_{job.checkpoint_step}.safetensors", "image.png"]
    host.scheduler.queue.cancel(job_id)
    host.scheduler.fleet.resume(gpu_id, "operator")
    host.succeeded(host.submit())


def test_at_the_deadline_a_worker_that_cannot_end_by_itself_is_killed(host: WorkerHost) -> None:
    worker, gpu_id = host.ready_worker(), host.gpu().info.id
    job_id, _ = submit_stuck(host)
    wait_for(lambda: host.gpu().leases, "the job to run", host.log)
    kill = OnDeadline.KILL
    host.scheduler.fleet.drain(gpu_id, "new fans", "operator", deadline_seconds=0.1, on_deadline=kill)

    def drained() -> bool:
        host.scheduler.reaper.run_once()
        return host.gpu().state is GpuState.DRAINED

    wait_for(drained, "the GPU to be drained", host.log)
    assert not psutil.pid_exists(worker.pid)
    job = host.scheduler.queue.get(job_id)
    assert (job.status, job.attempts, host.outcomes(job_id)) == ("queued", 0, ["released"])
    assert "the deadline of the drain has passed (new fans)" in host.log()
    host.scheduler.queue.cancel(job_id)
    host.scheduler.fleet.resume(gpu_id, "operator")
    host.succeeded(host.submit())


def test_a_worker_that_hangs_in_a_job_is_replaced_and_the_job_runs_again(host: WorkerHost) -> None:
    """Its heartbeat goes on all the while."""
    stuck = host.ready_worker()
    job_id, image = submit_stuck(host)
    wait_for(lambda: host.outcomes(job_id)[:1] == ["expired"], "the job to be taken back", host.log)
    image.unlink()
    host.scheduler.blobs.put_file(f"jobs/{job_id}/image.png", host.settings.data_dir.parent / "input.png")
    job = host.succeeded(job_id)
    assert job.attempts >= 2
    error = host.scheduler.queue.attempts(job_id)[0].error
    assert error is not None
    assert error.code == "worker_hung"
    assert "at loading, step 0 of 2" in error.message
    assert host.ready_worker(besides=stuck.pid).id != stuck.id
    assert not psutil.pid_exists(stuck.pid)


def test_a_worker_that_is_stopped_for_good_is_replaced(host: WorkerHost) -> None:
    stopped = host.ready_worker()
    os.kill(stopped.pid, signal.SIGSTOP)
    assert host.ready_worker(besides=stopped.pid).id != stopped.id
    assert not psutil.pid_exists(stopped.pid)
    host.succeeded(host.submit())
