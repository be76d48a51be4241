"""One tiny model for all tests here, loaded once; and a bench that runs attempts of it in this process."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from scheduler.ids import new_id
from scheduler.params import VideoParams
from scheduler.policy import Policy
from scheduler.records import GpuInfo, Job, Lease, NewJob, ServedModel, Worker
from scheduler.service import Scheduler
from tests.support.databases import sqlite_template
from tests.support.fleet import open_scheduler
from tests.support.service import wait_for
from tests.support.worker_host import TINY
from workers.control import Cause, Control, Interrupted
from workers.heartbeat import Heartbeat
from workers.meter import CpuMeter
from workers.models import choose, tiny_folder
from workers.pipelines.i2vgen_xl import I2VGenXL
from workers.runner import Runner

__all__ = ["sqlite_template"]

GPU = "CPU-test"
_POLICY = Policy(lease_seconds=30.0, retry_base_seconds=0.001, retry_cap_seconds=0.001)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model is; made here once, so that no worker has to."""
    folder = tmp_path_factory.mktemp("models")
    tiny_folder(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(models_dir: Path) -> Iterator[I2VGenXL]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield I2VGenXL.load(tiny_folder(models_dir), device=torch.device("cpu"), dtype=torch.float32)
    torch.set_num_threads(before)


class HookedModel:
    """The model, with a hook that runs before each denoising step."""

    def __init__(self, model: I2VGenXL) -> None:
        self._model = model
        self.before_step: Callable[[int], None] = lambda _index: None
        self.steps_done: list[int] = []

    def prepare(self, *arguments: Any) -> "HookedRun":
        return HookedRun(self, self._model.prepare(*arguments))


class HookedRun:
    def __init__(self, model: HookedModel, run: Any) -> None:
        self._model = model
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def step(self, index: int) -> None:
        self._model.before_step(index)
        self._run.step(index)
        self._model.steps_done.append(index)


class Bench:
    """A store with one CPU device, and a runner that this process drives."""

    def __init__(self, scheduler: Scheduler, model: I2VGenXL, data_dir: Path) -> None:
        self.scheduler = scheduler
        self.data_dir = data_dir
        self.model = HookedModel(model)
        self.shutdown = threading.Event()
        self.control = Control(self.shutdown)  # of the attempt that `run` began last
        choice = choose("tiny", kind="cpu", models_dir=data_dir)
        self.served: ServedModel = choice.served
        info = GpuInfo(GPU, "host", choice.served.id, "cpu", "cpu", "fp32", 8 * 2**30, 0)
        scheduler.fleet.register(choice.served, [info])
        self.worker = self.add_worker()
        self.heartbeat = Heartbeat(self.worker, scheduler.fleet, scheduler.leases, interval_seconds=0.25)
        self.heartbeat.start()
        scratch = data_dir / "scratch"
        scratch.mkdir()
        self.runner = Runner(
            self.model,  # type: ignore[arg-type]  # what it does is I2VGenXL's
            choice.architecture,
            scheduler,
            self.heartbeat,
            CpuMeter(),
            scratch=scratch,
            crf=18,
        )

    def add_worker(self) -> Worker:
        worker = Worker(new_id("worker"), GPU, 4711, self.served.id, 2**20, ready=True)
        self.scheduler.fleet.register_worker(worker)
        return worker

    def submit(self, params: VideoParams = TINY, image: bytes | None = None) -> str:
        job_id = new_id("job")
        path = self.data_dir / "input.png"
        if image is None:
            Image.effect_mandelbrot((96, 80), (-2, -1, 1, 1), 50).convert("RGB").save(path)
        else:
            path.write_bytes(image)
        self.scheduler.blobs.put_file(f"jobs/{job_id}/image.png", path)
        self.scheduler.queue.submit(NewJob(job_id, self.served.id, "a cat", params, f"jobs/{job_id}/image.png"))
        return job_id

    def claim(self, worker: Worker | None = None) -> Lease:
        """Claim the next job, as soon as its backoff is over."""
        by = worker or self.worker
        return wait_for(lambda: self.scheduler.queue.claim(by.id, GPU, 8 * 2**30), "a job to claim")

    def run(self, lease: Lease) -> str:
        self.model.steps_done.clear()
        self.control = Control(self.shutdown)
        return self.runner.run(lease, self.control)

    def job(self, job_id: str) -> Job:
        return self.scheduler.queue.get(job_id)

    def outcomes(self, job_id: str) -> list[str | None]:
        return [each.outcome and each.outcome.value for each in self.scheduler.queue.attempts(job_id)]

    def files(self, job_id: str) -> list[str]:
        folder = self.data_dir / "blobs" / "jobs" / job_id
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def heard(self, cause: Cause) -> None:
        """Wait until the running attempt knows of `cause`."""

        def look() -> bool:
            try:
                self.control.check()
            except Interrupted as interrupted:
                return interrupted.cause is cause
            return False

        wait_for(look, f"the attempt to hear of {cause}")


@pytest.fixture
def bench(tmp_path: Path, sqlite_template: Path, tiny: I2VGenXL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A fresh bench; at its end, nothing may be left in the folder for temporary files."""
    database, temporary = tmp_path / "reelq.db", tmp_path / "temporary"
    database.write_bytes(sqlite_template.read_bytes())
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with open_scheduler(f"sqlite:///{database}", tmp_path, _POLICY) as scheduler:
        bench = Bench(scheduler, tiny, tmp_path)
        yield bench
        bench.heartbeat.close()
    # The sockets of a store below a long path live there too.
    assert [path.name for path in temporary.iterdir() if not path.name.startswith(f"reelq-{os.getuid()}-")] == []
