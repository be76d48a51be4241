"""A supervisor and its worker as real processes, and what becomes of jobs when they are stopped, killed or drained.

One host serves all tests here; each leaves it with a supervisor and a ready worker.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from scheduler.processes import Child
from scheduler.records import Gpu
from scheduler.states import GpuState, JobStatus, Outcome
from tests.support.service import wait_for
from tests.support.worker_host import LONG, TINY, WorkerHost

_LEASE_SECONDS = 3.0


class Site(WorkerHost):
    """The host, with the supervisor that runs on it at present."""

    supervisor: Child

    def restart(self) -> None:
        self.supervisor = self.start()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("host"), models_dir, lease_seconds=_LEASE_SECONDS)
    try:
        site.restart()
        assert site.supervisor.ready.wait(30), site.log()
        site.ready_worker()
        yield site
    finally:
        site.close()


def test_processes_can_be_told_apart_by_their_command_lines(site: Site) -> None:
    worker = site.ready_worker()
    commands = {process.pid: process.cmdline() for process in site.processes()}
    assert set(commands) == {site.supervisor.pid, worker.pid}
    assert "supervisor" in commands[site.supervisor.pid]
    assert "gpu-worker" in commands[worker.pid]
    assert site.gpu().info.id in commands[worker.pid]


@pytest.mark.parametrize("shape", [(64, 2), (64, 16), (256, 8), (512, 2)], ids="{0[0]}x{0[1]}".format)
def test_the_measured_peak_is_within_what_was_admitted(shape: tuple[int, int], site: Site) -> None:
    side, num_frames = shape
    job = site.succeeded(
        site.submit(replace(TINY, width=side, height=side, num_frames=num_frames, num_inference_steps=1))
    )
    assert job.measured is not None
    assert job.measured.vram_peak_bytes is not None
    assert 0 < job.measured.vram_peak_bytes <= job.footprint.vram_bytes
    # The worker's resident bytes are what the ledger holds for it between jobs.
    assert job.measured.vram_peak_bytes > site.ready_worker().resident_bytes // 2


def test_the_gpu_is_sampled_while_it_serves(site: Site) -> None:
    worker = psutil.Process(site.ready_worker().pid)

    def look() -> Gpu | None:
        gpu = site.gpu()
        resident_bytes = worker.memory_info().rss
        return gpu if abs((gpu.sample.used_bytes or 0) - resident_bytes) < 0.1 * resident_bytes else None

    gpu = wait_for(look, "a sample of what the worker holds now", site.log)
    assert gpu.online
    assert gpu.sample.problem is None
    assert (gpu.sample.used_bytes or 0) + (gpu.sample.free_bytes or 0) == gpu.info.total_bytes


def test_a_killed_worker_is_replaced_and_its_job_runs_again(site: Site) -> None:
    job_id = site.submit(LONG)
    site.denoising(job_id)
    killed = site.ready_worker()
    os.kill(killed.pid, signal.SIGKILL)
    wait_for(lambda: site.outcomes(job_id) == ["expired"], "the job to be taken back", timeout=_LEASE_SECONDS)
    job = site.succeeded(job_id)
    assert job.attempts == 2
    assert site.outcomes(job_id) == ["expired", "succeeded"]
    assert [each.worker_id for each in site.scheduler.queue.attempts(job_id)] == [killed.id, site.ready_worker().id]
    site.leaves(job_id, "2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png")
    assert [each.id for each in site.gpu().workers] == [site.ready_worker().id]


def test_a_worker_that_was_stopped_past_its_lease_publishes_nothing(site: Site) -> None:
    """Frozen (a paused container, a swapping host): its job goes to another worker, which ends it first."""
    job_id = site.submit(LONG)
    site.denoising(job_id)
    frozen = site.ready_worker()
    os.kill(frozen.pid, signal.SIGSTOP)
    wait_for(lambda: site.scheduler.reaper.run_once().expired_jobs == [job_id], "the lease to run out")
    assert site.outcomes(job_id) == ["expired"]
    other = replace(frozen, id="worker_other", resident_bytes=0)
    site.scheduler.fleet.register_worker(other)
    taken = wait_for(
        lambda: site.scheduler.queue.claim(other.id, site.gpu().info.id, 3 * 2**30), "the job to be claimed again"
    )
    os.kill(frozen.pid, signal.SIGCONT)
    # It hears at its next report, gives the files it may have up, and is a worker like any other again.
    wait_for(lambda: frozen.id in [each.id for each in site.gpu().workers], "the frozen worker to be back")
    next_job = site.submit()
    assert site.scheduler.queue.attempts(site.succeeded(next_job).id)[0].worker_id == frozen.id
    site.leaves(job_id, "image.png")
    job = site.scheduler.queue.get(job_id)
    assert (job.status, job.result) == (JobStatus.RUNNING, None)
    site.scheduler.leases.release(taken)
    site.scheduler.fleet.worker_gone(other.id)
    assert site.succeeded(job_id).attempts == 2
    assert site.outcomes(job_id) == ["expired", "released", "succeeded"]
    site.leaves(job_id, "3/preview.webp", "3/thumbnail.jpg", "3/video.mp4", "image.png")


def test_a_drain_lets_the_job_finish_and_then_frees_the_gpu(site: Site) -> None:
    gpu_id = site.gpu().info.id
    worker = site.ready_worker()
    running, waiting = site.submit(LONG), None
    site.denoising(running)
    assert site.scheduler.fleet.drain(gpu_id, "new fans", "operator").state is GpuState.DRAINING
    waiting = site.submit()
    wait_for(lambda: site.gpu().state is GpuState.DRAINED, "the GPU to be drained", site.log)
    assert site.scheduler.queue.get(running).status is JobStatus.SUCCEEDED
    assert site.scheduler.queue.get(waiting).status is JobStatus.QUEUED
    assert not psutil.pid_exists(worker.pid)
    assert [process.pid for process in site.processes()] == [site.supervisor.pid]

    # A drain outlives the supervisor.
    site.supervisor.terminate()
    assert site.supervisor.finish(10) == 0
    before = site.gpu().seen_at
    site.restart()
    wait_for(lambda: site.gpu().seen_at > before + 0.5, "the new supervisor to look at the GPU a few times")
    assert [process.pid for process in site.processes()] == [site.supervisor.pid]
    assert site.gpu().state is GpuState.DRAINED

    site.scheduler.fleet.resume(gpu_id, "operator")
    assert site.succeeded(waiting).attempts == 1
    assert site.gpu().state is GpuState.ACTIVE


def test_a_supervisor_that_is_told_to_stop_gives_its_job_back(site: Site) -> None:
    worker = site.ready_worker()
    job_id = site.submit(LONG)
    site.denoising(job_id)
    site.supervisor.terminate()
    assert site.supervisor.finish(10) == 0
    assert site.processes() == []
    job = site.scheduler.queue.get(job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert site.outcomes(job_id) == ["released"]
    assert site.gpu().workers == ()
    site.restart()
    assert site.succeeded(job_id).attempts == 1
    assert site.outcomes(job_id) == ["released", "succeeded"]
    assert site.ready_worker().id != worker.id


def test_after_a_killed_supervisor_two_workers_never_run_at_once(site: Site) -> None:
    job_id = site.submit(LONG)
    site.denoising(job_id)
    old = site.ready_worker()
    os.kill(old.pid, signal.SIGSTOP)  # so that it outlives its supervisor for as long as we look
    os.kill(site.supervisor.pid, signal.SIGKILL)
    site.supervisor.finish(5)
    site.restart()
    new_pid = wait_for(lambda: _waiting_for_the_gpu(site, old.pid), "the new worker to wait for the GPU", site.log)
    assert [each.pid for each in site.gpu().workers] == [old.pid]
    os.kill(old.pid, signal.SIGCONT)
    wait_for(lambda: not psutil.pid_exists(old.pid) or _is_zombie(old.pid), "the orphan to end", site.log)
    assert site.ready_worker(besides=old.pid).pid == new_pid
    job = site.succeeded(job_id)
    history = site.scheduler.queue.attempts(job_id)
    assert history[-1].outcome is Outcome.SUCCEEDED
    assert [each.outcome in (Outcome.RELEASED, Outcome.EXPIRED) for each in history[:-1]] == [True]
    site.leaves(job_id, "2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png")
    assert job.attempts == (1 if history[0].outcome is Outcome.RELEASED else 2)
    wait_for(lambda: [each.pid for each in _reaped(site).workers] == [new_pid], "the orphan to be forgotten", site.log)


def _reaped(site: Site) -> Gpu:
    """The GPU after a round of the reaper's."""
    site.scheduler.reaper.run_once()
    return site.gpu()


def _waiting_for_the_gpu(site: Site, besides: int) -> int | None:
    """The process that has the GPU's lock file open, and is not the one that holds the lock."""
    lock = site.settings.data_dir / "run" / f"{site.gpu().info.id}-0.lock"
    for process in site.processes():
        if process.pid == besides:
            continue
        try:
            if lock in [entry.readlink() for entry in Path(f"/proc/{process.pid}/fd").iterdir()]:
                return process.pid
        except OSError:
            continue  # it closed one meanwhile
    return None


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
