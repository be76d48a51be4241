"""A running job whose worker, host or GPU goes away: it goes on from its checkpoint, to a video of the same bytes."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from scheduler.params import VideoParams
from scheduler.processes import Child
from scheduler.records import Job
from scheduler.states import DrainMode, GpuState, Stage
from tests.support.service import wait_for
from tests.support.worker_host import WorkerHost
from workers.models import tiny_folder

pytestmark = pytest.mark.acceptance

# Long enough to be caught at each stage: progress is told four times a second.
_PARAMS = VideoParams(160, 160, num_frames=16, num_inference_steps=6, guidance_scale=9.0, target_fps=8, seed=1)


class Host(WorkerHost):
    """A host whose supervisor can be started again."""

    supervisor: Child

    def up(self) -> None:
        """Start the supervisor, and wait for a worker."""
        self.supervisor = self.start()
        self.ready_worker()

    def at(self, stage: Stage, job_id: str) -> Job:
        """Wait until a job is at a stage, with a checkpoint behind it."""

        def look() -> Job | None:
            job = self.scheduler.queue.get(job_id)
            assert not job.status.ended, f"{job.status} before it was {stage}\n{self.log()}"
            is_there = job.progress is not None and job.progress.stage is stage and job.checkpoint_step
            return job if is_there else None

        return wait_for(look, f"{job_id} to be {stage}", self.log)

    def video(self, job: Job) -> bytes:
        """The bytes of a job's video."""
        assert job.result is not None
        return (self.settings.data_dir / "blobs" / job.result.video_key).read_bytes()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    models_dir = tmp_path_factory.mktemp("models")
    tiny_folder(models_dir)
    host = Host(
        tmp_path_factory.mktemp("host"), models_dir, lease_seconds=2.0, checkpoint_seconds=0.05, lookahead_seconds=0.0
    )
    try:
        host.up()
        yield host
    finally:
        host.close()


@pytest.fixture(scope="module")
def uninterrupted(host: Host) -> bytes:
    """The video of a run that nothing stopped."""
    return host.video(host.succeeded(host.submit(_PARAMS)))


@pytest.mark.parametrize("stage", [Stage.DENOISING, Stage.DECODING])
def test_a_killed_worker(stage: Stage, host: Host, uninterrupted: bytes) -> None:
    worker = host.ready_worker()
    job_id = host.submit(_PARAMS)
    host.at(stage, job_id)
    os.kill(worker.pid, signal.SIGKILL)
    job = host.succeeded(job_id)
    assert host.outcomes(job_id) == ["expired", "succeeded"]
    assert job.resumed_from_step is not None
    assert job.resumed_from_step >= 1
    assert host.video(job) == uninterrupted
    host.leaves(job_id, "2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png")


def test_a_host_that_is_told_to_stop_and_started_again(host: Host, uninterrupted: bytes) -> None:
    """As a spot instance is: a signal, some seconds, and later another machine."""
    job_id = host.submit(_PARAMS)
    host.at(Stage.DENOISING, job_id)
    host.supervisor.terminate()
    assert host.supervisor.finish(30.0) == 0
    assert host.processes() == []
    left = host.scheduler.queue.get(job_id)
    assert (left.status, left.attempts) == ("queued", 0), "no attempt is burned"
    assert left.checkpoint_step
    host.up()
    job = host.succeeded(job_id)
    assert (job.attempts, job.resumed_from_step) == (1, left.checkpoint_step)
    assert host.video(job) == uninterrupted


def test_a_machine_that_loses_power(host: Host, uninterrupted: bytes) -> None:
    job_id = host.submit(_PARAMS)
    host.at(Stage.DENOISING, job_id)
    for process in host.processes():
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not host.processes(), "all to be dead")
    host.up()
    job = host.succeeded(job_id)
    assert job.resumed_from_step
    assert host.video(job) == uninterrupted


def test_a_gpu_that_is_drained_and_resumed(host: Host, uninterrupted: bytes) -> None:
    worker, gpu_id = host.ready_worker(), host.gpu().info.id
    job_id = host.submit(_PARAMS)
    host.at(Stage.DENOISING, job_id)
    host.scheduler.fleet.drain(gpu_id, "new fans", "operator", mode=DrainMode.CHECKPOINT)
    wait_for(lambda: host.gpu().state is GpuState.DRAINED, "the GPU to be drained", host.log)
    assert not psutil.pid_exists(worker.pid)
    host.scheduler.fleet.resume(gpu_id, "operator")
    job = host.succeeded(job_id)
    assert host.outcomes(job_id) == ["released", "succeeded"]
    assert job.resumed_from_step
    assert host.video(job) == uninterrupted


def test_one_that_is_preempted(host: Host, uninterrupted: bytes) -> None:
    host.ready_worker()
    job_id = host.submit(_PARAMS)
    host.at(Stage.DENOISING, job_id)
    host.scheduler.control.preempt(job_id, "operator")
    job = host.succeeded(job_id)
    assert host.outcomes(job_id) == ["released", "succeeded"]
    assert job.attempts == 1
    assert host.video(job) == uninterrupted
