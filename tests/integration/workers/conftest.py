"""One tiny model for all tests here, loaded once; and a bench that runs attempts of it in this process."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from scheduler import tracing
from scheduler.ids import new_id
from scheduler.params import VideoParams
from scheduler.policy import Policy
from scheduler.records import GpuInfo, Job, Lease, NewJob, ServedModel, Worker
from scheduler.service import Scheduler
from tests.support.databases import sqlite_template
from tests.support.fleet import open_scheduler
from tests.support.service import wait_for
from tests.support.worker_host import TINY
from workers.control import Cause
from workers.endings import Endings
from workers.energy import EnergyAccount
from workers.engine import Engine
from workers.guard import Guard
from workers.heartbeat import Heartbeat
from workers.hold import Hold
from workers.intake import Arrival, Drained, Preparer, Want
from workers.meter import CpuMeter, Meter
from workers.models import choose, tiny_folder
from workers.pipelines.embeddings import EmbeddingCache
from workers.pipelines.i2vgen_xl import I2VGenXL, Run, Step
from workers.publisher import Publisher

__all__ = ["sqlite_template"]

GPU = "CPU-test"
PLANS = ("fp32", "fp32-chunked")
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
    yield I2VGenXL.load(tiny_folder(models_dir), device=torch.device("cpu"), plan="fp32")
    torch.set_num_threads(before)


class HookedModel:
    """The model, with a hook that runs before each pass, and a record of the passes."""

    def __init__(self, model: I2VGenXL) -> None:
        self._model = model
        self.before_step: Callable[[int], None] = lambda _index: None
        self.waited: Callable[[tuple[int, ...]], None] = lambda _indices: None  # when a pass is looked at
        self.passes: list[tuple[int, ...]] = []  # the step each run made, pass by pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def steps_done(self) -> list[int]:
        """The steps made, of one run after another."""
        return [index for each in self.passes for index in each]

    def step(self, runs: Sequence[Run]) -> Step:
        self.before_step(runs[0].index)
        indices = tuple(run.index for run in runs)
        step = self._model.step(runs)
        self.passes.append(indices)
        wait = step.wait

        def look() -> tuple[bool, ...]:
            self.waited(indices)
            return wait()

        step.wait = look  # type: ignore[method-assign]
        return step


class Desk:
    """A source of work that claims in the engine's own thread, and sends it home when there is nothing."""

    def __init__(self, claim: Callable[[Want], Lease | None], preparer: Preparer, *, idle_turns: int = 0) -> None:
        self._claim = claim
        self._preparer = preparer
        self._idle_turns = idle_turns  # how often it finds nothing before it says so
        self._want: Want | None = None

    def wish(self, want: Want | None) -> None:
        self._want = want

    def take(self, timeout_seconds: float) -> Arrival:
        if self._want is None:
            return None
        lease = self._claim(self._want)
        if lease is not None:
            self._want = None
            return self._preparer.prepare(lease)
        if not timeout_seconds:
            return None
        self._idle_turns -= 1
        return Drained() if self._idle_turns < 0 else None

    def close(self) -> list[Arrival]:
        return []


class NotingEndings(Endings):
    """Endings that keep what they have logged."""

    outcomes: list[str]

    def _log(self, attempt: Any, outcome: str, *rest: Any) -> None:
        self.outcomes.append(outcome)
        super()._log(attempt, outcome, *rest)


class Bench:
    """A store with one CPU device, and an engine that this process drives."""

    def __init__(self, scheduler: Scheduler, model: I2VGenXL, data_dir: Path) -> None:
        self.scheduler = scheduler
        self.data_dir = data_dir
        self.model = HookedModel(model)
        model.embeddings = EmbeddingCache()  # what another test has encoded would not be encoded here
        self.shutdown = threading.Event()
        choice = choose("tiny", kind="cpu", models_dir=data_dir)
        self.choice = choice
        self.served: ServedModel = choice.served
        self.gpu_id = GPU
        self.offer_plans(*PLANS)
        self.worker = self.add_worker()
        self.heartbeat = Heartbeat(self.worker, scheduler.fleet, scheduler.leases, interval_seconds=0.25)
        self.heartbeat.start()
        self.scratch = data_dir / "scratch"
        self.scratch.mkdir()
        self.synchronous = True
        self.clock: Callable[[], float] = time.monotonic
        self.meter: Meter = CpuMeter()
        self.idle_turns = 0
        self.idle_unload_seconds = 0.0
        self.batch_jobs = 1
        self.checkpoint_seconds = 3600.0
        self.lookahead_seconds = 0.0
        self.tracer = tracing.OFF
        self.claimed: list[Lease] = []
        self.engine: Engine | None = None

    def run(self, *leases: Lease) -> str:
        """Run these leases; without any, whatever can be claimed, until nothing is left. Returns the last outcome."""
        self.model.passes.clear()
        given = list(leases)
        claim = (lambda _want: given.pop(0) if given else None) if leases else self._claim
        with ThreadPoolExecutor(1) as saver:
            preparer = Preparer(
                self.model,  # type: ignore[arg-type]  # what it does is I2VGenXL's
                self.choice.architecture,
                self.scheduler,
                self.heartbeat,
                model_fingerprint=self.served.fingerprint,
                scratch=self.scratch,
                saver=saver,
                checkpoint_seconds=self.checkpoint_seconds,
                stopping=self.shutdown,
            )
            hold = Hold(
                self.model,  # type: ignore[arg-type]  # likewise
                self.meter,
                self.worker,
                self.scheduler.fleet.register_worker,
                leak_limit_bytes=2**30,
            )
            hold.declare()
            endings = NotingEndings(self.scheduler, self.heartbeat, gpu_kind="cpu", tracer=self.tracer)
            endings.outcomes = []
            self.engine = Engine(
                self.model,  # type: ignore[arg-type]  # likewise
                Desk(claim, preparer, idle_turns=self.idle_turns),
                Publisher(self.scheduler.blobs, endings, scratch=self.scratch, crf=18),
                hold,
                EnergyAccount(lambda: None),
                Guard(
                    self.model,  # type: ignore[arg-type]  # likewise
                    lambda attempt, message: self.scheduler.leases.notice(attempt.lease, "numerical", message),
                ),
                synchronous=self.synchronous,
                stopping=self.shutdown.is_set,
                lookahead_seconds=self.lookahead_seconds,
                batch_jobs=self.batch_jobs,
                idle_unload_seconds=self.idle_unload_seconds,
                clock=self.clock,
            )
            self.engine.run()
        return endings.outcomes[-1] if endings.outcomes else "nothing"

    def _claim(self, want: Want) -> Lease | None:
        lease = self.scheduler.queue.claim(
            self.worker.id, self.gpu_id, 8 * 2**30, lane=want.lane, shape=want.shape, plan=want.plan
        )
        self.claimed.extend([lease] if lease else [])
        return lease

    def move_to_another_gpu(self) -> None:
        """Have the next runs be those of a worker on another GPU of the same kind."""
        self.gpu_id = f"{self.gpu_id}-another"
        self.offer_plans(*PLANS)
        self.worker = self.add_worker()

    def offer_plans(self, *plans: str) -> None:
        """Have the device run these plans from now on."""
        info = GpuInfo(self.gpu_id, "host", self.served.id, "cpu", "cpu", plans, 8 * 2**30, 0)
        self.scheduler.fleet.register(self.served, [info])

    def add_worker(self) -> Worker:
        worker = Worker(new_id("worker"), self.gpu_id, 4711, self.served.id, 2**20, ready=True)
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
        return wait_for(lambda: self.scheduler.queue.claim(by.id, by.gpu_id, 8 * 2**30), "a job to claim")

    def job(self, job_id: str) -> Job:
        return self.scheduler.queue.get(job_id)

    def outcomes(self, job_id: str) -> list[str | None]:
        return [each.outcome and each.outcome.value for each in self.scheduler.queue.attempts(job_id)]

    def files(self, job_id: str) -> list[str]:
        folder = self.data_dir / "blobs" / "jobs" / job_id
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def named(self, job_id: str, *, at_least: int) -> None:
        """Wait until the store names a checkpoint of a step that late."""
        wait_for(lambda: (self.job(job_id).checkpoint_step or 0) >= at_least, f"a checkpoint of step {at_least}")

    def heard(self, cause: Cause) -> None:
        """Wait until an attempt that is running knows of `cause`."""

        def look() -> bool:
            engine = self.engine
            running = engine._batch + engine._next if engine else []
            return any(attempt.control.cause() is cause for attempt in running)

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
