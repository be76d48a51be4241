"""A host as an operator starts it: a real supervisor with real workers, driven through its store and its signals."""

import sys
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from scheduler.ids import new_id
from scheduler.params import VideoParams
from scheduler.processes import Child
from scheduler.records import Gpu, Job, NewJob, Worker
from scheduler.service import Scheduler
from scheduler.states import JobStatus, Stage
from tests.support.service import wait_for
from workers.settings import WorkerSettings

TINY = VideoParams(64, 64, num_frames=2, num_inference_steps=2, guidance_scale=9.0, target_fps=8, seed=1)
LONG = VideoParams(64, 64, num_frames=2, num_inference_steps=80, guidance_scale=9.0, target_fps=8, seed=1)


class WorkerHost:
    """A data directory, its store, and whatever `start` started there. `close` leaves nothing running."""

    def __init__(self, folder: Path, models_dir: Path, environment: dict[str, str] | None = None, **settings: Any):
        self.settings = WorkerSettings(
            **{
                "data_dir": folder / "data",
                "models_dir": models_dir,
                "model": "tiny",
                "device": "cpu",
                "cpu_memory_bytes": 3 * 2**30,
                "cpu_threads": 1,
                "log_format": "json",
                "sample_seconds": 0.2,
                "poll_seconds": 0.2,
                "shutdown_seconds": 20.0,
                **settings,
            }
        )
        self.stderr = folder / "stderr.log"
        self._environment = {**(environment or {}), **self.settings.environment()}
        self._image = folder / "input.png"
        Image.effect_mandelbrot((96, 80), (-2, -1, 1, 1), 50).convert("RGB").save(self._image)
        self._started: list[Child] = []
        self.scheduler = Scheduler.open(self.settings)

    def start(self) -> Child:
        """Start a supervisor as `reelq-worker` would; its stderr, and its workers', goes to `stderr`."""
        redirected = ("sh", "-c", 'exec "$@" 2>>"$0"', str(self.stderr))
        child = Child([*redirected, sys.executable, "-m", "workers"], self._environment)
        self._started.append(child)
        return child

    def processes(self) -> list[psutil.Process]:
        """Every process on this data directory, whoever its parent is."""
        mine = ("REELQ_DATA_DIR", str(self.settings.data_dir))
        found = []
        for process in psutil.process_iter(["environ", "status"]):
            running = process.info["status"] != psutil.STATUS_ZOMBIE
            if running and mine in (process.info["environ"] or {}).items():
                found.append(process)
        return found

    def gpu(self) -> Gpu:
        """The host's only GPU."""
        (gpu,) = self.scheduler.fleet.gpus()
        return gpu

    def ready_worker(self, *, besides: int | None = None) -> Worker:
        """Wait for a worker that takes jobs, in another process than `besides`."""

        def look() -> Worker | None:
            ready = (each for gpu in self.scheduler.fleet.gpus() for each in gpu.workers if each.ready)
            return next((each for each in ready if each.pid != besides), None)

        return wait_for(look, "a ready worker", self.log)

    def submit(self, params: VideoParams = TINY) -> str:
        """Put a job into the queue and return its id."""
        job_id = new_id("job")
        self.scheduler.blobs.put_file(f"jobs/{job_id}/image.png", self._image)
        new = NewJob(job_id, next(iter(self.scheduler.queue.models())), "a cat", params, f"jobs/{job_id}/image.png")
        return self.scheduler.queue.submit(new).job.id

    def denoising(self, job_id: str) -> Job:
        """Wait until a job is in the middle of its steps."""

        def look() -> Job | None:
            progress = self.scheduler.queue.get(job_id).progress
            denoises = progress is not None and progress.stage is Stage.DENOISING and progress.step > 0
            return self.scheduler.queue.get(job_id) if denoises else None

        return wait_for(look, f"{job_id} to denoise", self.log)

    def ended(self, job_id: str) -> Job:
        """Wait for a job's end; meanwhile the reaper works, as a front end makes it."""

        def look() -> Job | None:
            self.scheduler.reaper.run_once()
            job = self.scheduler.queue.get(job_id)
            return job if job.status.ended else None

        return wait_for(look, f"{job_id} to end", self.log)

    def succeeded(self, job_id: str) -> Job:
        """Wait for a job's end, which must be a success."""
        job = self.ended(job_id)
        assert job.status is JobStatus.SUCCEEDED, f"{job.error}\n{self.log()}"
        return job

    def outcomes(self, job_id: str) -> list[str | None]:
        """How the job's attempts ended, oldest first."""
        return [each.outcome and each.outcome.value for each in self.scheduler.queue.attempts(job_id)]

    def files(self, job_id: str) -> list[str]:
        """What is stored of a job, below its folder."""
        folder = self.settings.data_dir / "blobs" / "jobs" / job_id
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def leaves(self, job_id: str, *names: str) -> None:
        """Wait until that is all that is stored of a job: a worker tidies up after it has told the job's end."""
        wait_for(lambda: self.files(job_id) == sorted(names), f"{job_id} to leave {names}", self.log)

    def log(self) -> str:
        """What the processes have written so far."""
        return self.stderr.read_text(errors="replace")[-6000:] if self.stderr.exists() else ""

    def close(self) -> None:
        """End whatever still runs, whatever the test did."""
        for process in self.processes():
            try:
                process.kill()  # also ends a stopped one
            except psutil.NoSuchProcess:
                continue
        for child in self._started:
            child.finish(0.0)
        wait_for(lambda: not self.processes(), "the host's processes to end")
        self.scheduler.close()
