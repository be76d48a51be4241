"""A supervisor over a fake NVML with real worker processes that own no model: GPUs that break, are sliced or shared."""

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest

from scheduler.errors import NotFound
from scheduler.ids import new_id
from scheduler.params import VideoParams
from scheduler.records import Gpu, NewJob
from scheduler.service import Scheduler
from scheduler.states import DrainMode, GpuState, JobStatus, Outcome
from scheduler.waits import Blocker
from tests.support import fake_nvml, stub_worker
from tests.support.databases import sqlite_template
from tests.support.fake_nvml import GIB, FakeGpu, FakeSlice, Xid
from tests.support.service import wait_for
from workers import slot as slot_module
from workers.devices import NvmlProbe
from workers.settings import WorkerSettings
from workers.slot import Slot
from workers.supervisor import Supervisor, describe

__all__ = ["sqlite_template"]

_A, _B = (FakeGpu(uuid=f"GPU-{letter}", total_bytes=24 * GIB) for letter in "ab")
_PARAMS = VideoParams(512, 512, 16, 50, 9.0, 16, seed=7)


class Host:
    """One machine: a store, NVML, and a supervisor in a thread of this process."""

    def __init__(self, scheduler: Scheduler, settings: WorkerSettings, configure: Callable[..., None]) -> None:
        self.scheduler = scheduler
        self.configure = configure
        self._settings = settings
        self._stopping = threading.Event()
        self._probe = NvmlProbe()
        self._thread: threading.Thread | None = None

    def start(self, *gpus: FakeGpu, workers_per_gpu: int = 1) -> None:
        """Start the supervisor, and wait until all its workers are ready."""
        self.configure(*gpus)
        devices = self._probe.devices()
        model, infos = describe(self._settings, devices)
        register = partial(self.scheduler.fleet.register, model, infos)
        register()
        shares = range(workers_per_gpu)
        slots = [Slot(self._settings, self.scheduler, device, number) for device in devices for number in shares]
        supervisor = Supervisor(self._settings, self.scheduler, self._probe, slots, register)
        self._thread = threading.Thread(target=supervisor.run, args=(self._stopping,))
        self._thread.start()
        for device in devices:
            self.when(device.id, lambda gpu: len(gpu.workers) == workers_per_gpu)

    def when(self, gpu_id: str, condition: Callable[[Gpu], Any]) -> Gpu:
        """Wait until a GPU is as `condition` wants it."""

        def look() -> Gpu | None:
            try:
                gpu = self.scheduler.fleet.gpu(gpu_id)
            except NotFound:
                return None
            return gpu if condition(gpu) else None

        return wait_for(look, f"{gpu_id} to change", lambda: str(self.scheduler.fleet.gpus()))

    def worker(self, gpu_id: str) -> psutil.Process:
        """The process that serves a GPU."""
        (worker,) = self.scheduler.fleet.gpu(gpu_id).workers
        return psutil.Process(worker.pid)

    def running(self) -> tuple[str, str]:
        """Put a job into the queue; returns its id, and the GPU that soon runs it."""
        job_id = self.submit()
        wait_for(lambda: self.scheduler.queue.get(job_id).status is JobStatus.RUNNING, f"{job_id} to run")
        (attempt,) = self.scheduler.queue.attempts(job_id)
        return job_id, attempt.gpu_id

    def submit(self) -> str:
        job_id, (model,) = new_id("job"), self.scheduler.queue.models()
        self.scheduler.queue.submit(NewJob(job_id, model, "a cat", _PARAMS, f"jobs/{job_id}/image.png"))
        return job_id

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._probe.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def host(library: Path, tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    (tmp_path / "reelq.db").write_bytes(sqlite_template.read_bytes())
    program = stub_worker.executable(tmp_path, sys.executable)
    monkeypatch.setattr(slot_module, "sys", SimpleNamespace(executable=program))
    settings = WorkerSettings(data_dir=tmp_path, model="tiny", sample_seconds=0.05, poll_seconds=0.05, headroom_bytes=0)
    control = tmp_path / "nvml"
    with Scheduler.open(settings) as scheduler, fake_nvml.loaded(library, control):
        host = Host(scheduler, settings, partial(fake_nvml.configure, control))
        yield host
        host.stop()
        assert [gpu.workers for gpu in scheduler.fleet.gpus()] == [()] * len(scheduler.fleet.gpus())


def test_an_xid_takes_one_gpu_out_and_its_job_goes_on_elsewhere_with_all_its_attempts(host: Host) -> None:
    host.start(_A, _B)
    job_id, broken = host.running()
    other = "GPU-b" if broken == "GPU-a" else "GPU-a"
    worker, bystander = host.worker(broken), host.worker(other)
    host.configure(_A, _B, xids=[Xid(79, gpu=0 if broken == "GPU-a" else 1)])
    gpu = host.when(broken, lambda gpu: gpu.state is GpuState.FAULTED)
    assert (gpu.reason, gpu.actor) == ("Xid 79: GPU has fallen off the bus", "supervisor")
    host.when(other, lambda gpu: [lease.job_id for lease in gpu.leases] == [job_id])
    history = host.scheduler.queue.attempts(job_id)
    assert [(each.gpu_id, each.outcome) for each in history] == [(broken, Outcome.RELEASED), (other, None)]
    assert host.scheduler.queue.get(job_id).attempts == 1
    host.when(broken, lambda gpu: gpu.workers == ())
    assert not worker.is_running()
    assert host.worker(other) == bystander

    host.scheduler.fleet.resume(broken, "operator")
    host.when(broken, lambda gpu: gpu.workers)
    assert host.scheduler.fleet.gpu(broken).state is GpuState.ACTIVE


def test_an_error_of_a_program_is_left_to_the_program(host: Host) -> None:
    host.start(_A)
    job_id, _ = host.running()
    worker = host.worker("GPU-a")
    host.configure(_A, xids=[Xid(13), Xid(31), Xid(43)])
    before = host.scheduler.fleet.gpu("GPU-a").seen_at
    gpu = host.when("GPU-a", lambda gpu: gpu.seen_at > before + 0.3)
    assert gpu.state is GpuState.ACTIVE
    assert [lease.job_id for lease in gpu.leases] == [job_id]
    assert host.worker("GPU-a") == worker


def test_a_lost_gpu_gives_its_job_back_unharmed_and_stays_out(host: Host) -> None:
    host.start(_A)
    job_id, _ = host.running()
    worker = host.worker("GPU-a")
    host.configure(_A, errors={"nvmlDeviceGetHandleByUUID": pynvml.NVML_ERROR_GPU_IS_LOST})
    gpu = host.when("GPU-a", lambda gpu: gpu.state is GpuState.FAULTED and gpu.leases == ())
    assert gpu.reason == "GPU GPU-a: GPU is lost (NVML error 15)"
    job = host.scheduler.queue.get(job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker to be ended")
    host.configure(_A)
    gpu = host.when("GPU-a", lambda gpu: gpu.sample.problem is None and gpu.workers == ())
    assert gpu.state is GpuState.FAULTED


def test_the_slices_of_a_gpu_have_a_worker_each_and_break_apart(host: Host) -> None:
    slices = [
        FakeSlice("MIG-a", instance=1, total_bytes=40 * GIB),
        FakeSlice("MIG-b", instance=2, total_bytes=40 * GIB),
    ]
    sliced = FakeGpu(uuid="GPU-a", slices=slices)
    host.start(sliced)
    assert [gpu.info.id for gpu in host.scheduler.fleet.gpus()] == ["MIG-a", "MIG-b"]
    for each in slices:
        gpu, process = host.scheduler.fleet.gpu(each.uuid), host.worker(each.uuid)
        assert (gpu.info.kind, gpu.info.total_bytes) == ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40 * GIB)
        assert process.environ()["CUDA_VISIBLE_DEVICES"] == each.uuid
    host.configure(sliced, xids=[Xid(95, instance=2)])
    assert host.when("MIG-b", lambda gpu: gpu.state is GpuState.FAULTED).reason == "Xid 95: uncontained memory error"
    assert host.scheduler.fleet.gpu("MIG-a").state is GpuState.ACTIVE
    host.configure(sliced, xids=[Xid(95, instance=2), Xid(79)])
    host.when("MIG-a", lambda gpu: gpu.state is GpuState.FAULTED)


def test_workers_share_a_gpu_and_it_is_drained_when_the_driver_lists_neither(host: Host) -> None:
    host.start(_A, workers_per_gpu=2)
    jobs = [host.submit(), host.submit()]
    gpu = host.when("GPU-a", lambda gpu: len(gpu.leases) == 2)
    assert {lease.worker_id for lease in gpu.leases} == {worker.id for worker in gpu.workers}
    first, second = (worker.pid for worker in gpu.workers)

    def listed(*pids: int) -> FakeGpu:
        return FakeGpu(uuid="GPU-a", total_bytes=24 * GIB, used_bytes=4 * GIB, compute=dict.fromkeys(pids, GIB))

    host.configure(listed(first, second))
    host.when("GPU-a", lambda gpu: gpu.sample.used_bytes == 4 * GIB)
    host.scheduler.fleet.drain("GPU-a", "new fans", "operator", mode=DrainMode.CHECKPOINT)
    host.when("GPU-a", lambda gpu: gpu.leases == ())
    wait_for(lambda: not _alive(first) and not _alive(second), "the workers to leave")
    host.configure(listed(second))
    gpu = host.when("GPU-a", lambda gpu: len(gpu.workers) == 1)
    assert (gpu.state, [worker.pid for worker in gpu.workers]) == (GpuState.DRAINING, [second])
    host.configure(listed())
    host.when("GPU-a", lambda gpu: gpu.state is GpuState.DRAINED)
    assert [host.scheduler.queue.get(job_id).attempts for job_id in jobs] == [0, 0]


def test_what_strangers_hold_is_not_offered_and_a_waiting_job_says_so(host: Host) -> None:
    crowded = FakeGpu(uuid="GPU-a", total_bytes=24 * GIB, used_bytes=24 * GIB - 2**20, compute={99: 23 * GIB})
    host.start(crowded)
    host.when("GPU-a", lambda gpu: gpu.sample.free_bytes == 2**20)
    job_id = host.submit()
    info = host.scheduler.queue.explain(host.scheduler.queue.get(job_id))
    assert info is not None
    assert info.wait.code is Blocker.FOREIGN_MEMORY
    assert info.wait.details["foreign_bytes"] == 23 * GIB - 2**20
    host.configure(_A)
    wait_for(lambda: host.scheduler.queue.get(job_id).status is JobStatus.RUNNING, "the job to run")


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
