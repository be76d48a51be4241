"""Two real workers that share one device: each has a process and a job of its own, and both leave when it drains."""

from pathlib import Path

from scheduler.states import GpuState, JobStatus
from tests.support.service import wait_for
from tests.support.worker_host import LONG, WorkerHost


def test_two_workers_share_a_device_and_its_memory(tmp_path: Path, models_dir: Path) -> None:
    host = WorkerHost(tmp_path, models_dir, workers_per_gpu=2)
    try:
        supervisor = host.start()
        first = host.ready_worker()
        second = host.ready_worker(besides=first.pid)
        jobs = [host.submit(LONG), host.submit(LONG)]
        wait_for(lambda: len(host.gpu().leases) == 2, "both jobs to run", host.log)
        assert {lease.worker_id for lease in host.gpu().leases} == {first.id, second.id}
        gpu = host.gpu()
        promised = sum(lease.reserved_bytes for lease in gpu.leases)
        assert gpu.reserved_bytes == promised + sum(worker.resident_bytes for worker in gpu.workers)
        host.scheduler.fleet.drain(gpu.info.id, "new fans", "operator")
        wait_for(lambda: host.gpu().state is GpuState.DRAINED, "the device to be drained", host.log)
        assert [process.pid for process in host.processes()] == [supervisor.pid]
        assert [host.scheduler.queue.get(job_id).status for job_id in jobs] == [JobStatus.SUCCEEDED] * 2
        supervisor.terminate()
        assert supervisor.finish(20) == 0
    finally:
        host.close()
