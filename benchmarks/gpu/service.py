"""Jobs through the real service: a supervisor, its worker, a store. Cold load, the recipe, gaps, checkpoints."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar

from PIL import Image

from benchmarks.gpu.rows import RECIPE
from benchmarks.gpu.subject import Subject
from scheduler.ids import new_id
from scheduler.params import VideoParams
from scheduler.processes import Child
from scheduler.records import Job, NewJob
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from workers.settings import WorkerSettings
from workers.stopwatch import GAP

_START_SECONDS = 300.0
_JOB_SECONDS = 300.0
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 30.0
_CHECKPOINT_SECONDS = 1.0  # ten times as often as by default: a job here takes seconds

T = TypeVar("T")


def measure(subject: Subject, scratch: Path, jobs: int) -> dict[str, Any]:
    """Run the recipe `jobs` times, one after the other on loaded weights; seconds, and shares of the run time."""
    recipe = subject.sized(RECIPE)
    with _running(subject, scratch) as service:
        service.finish([service.submit(recipe.params)])  # everything is slow once
        done = service.finish([service.submit(recipe.params) for _ in range(jobs)])
        runs = [job.measured.run_seconds for job in done if job.measured]
        gaps = [job.measured.stage_seconds.get(GAP, 0.0) for job in done[1:] if job.measured]
        saved = service.ended_attempts({job.id for job in done})
        took = (done[-1].finished_at or 0.0) - (done[0].started_at or 0.0)
        return {
            "plan": done[0].footprint.plan,
            "jobs": jobs,
            "cold_load_seconds": service.cold_load_seconds,
            "mean_run_seconds": fmean(runs),
            "mean_seconds_back_to_back": took / jobs,
            "videos_per_hour": 3600 * jobs / took,
            "gap_seconds": median(gaps),
            "gap_share": sum(gaps) / sum(runs[1:]),
            "checkpoints": sum(each["saves"] for each in saved),
            "checkpoint_seconds": sum(each["save_seconds"] for each in saved),
            "checkpoint_share": sum(each["save_seconds"] for each in saved) / sum(runs),
            "predicted_seconds": done[0].footprint.seconds,
        }


class _Service:
    """A data directory, its store, and the processes on it."""

    def __init__(self, settings: WorkerSettings, scheduler: Scheduler, image: Path, log: Path) -> None:
        self.cold_load_seconds = 0.0
        self._settings = settings
        self._scheduler = scheduler
        self._image = image
        self._log = log

    def start(self) -> Child:
        """Start the supervisor; a worker is ready when this returns."""
        redirected = ("sh", "-c", 'exec "$@" 2>>"$0"', str(self._log))
        started = time.monotonic()
        child = Child([*redirected, sys.executable, "-m", "workers"], self._settings.environment())
        try:
            self._wait(
                lambda: any(w.ready for gpu in self._scheduler.fleet.gpus() for w in gpu.workers), _START_SECONDS
            )
        except BaseException:
            child.terminate()
            child.finish(_STOP_SECONDS)
            raise
        self.cold_load_seconds = time.monotonic() - started
        return child

    def submit(self, params: VideoParams) -> str:
        """Queue a job and return its id."""
        job_id = new_id("job")
        key = f"jobs/{job_id}/image.png"
        self._scheduler.blobs.put_file(key, self._image)
        model = next(iter(self._scheduler.queue.models()))
        return self._scheduler.queue.submit(NewJob(job_id, model, f"a boat, {job_id}", params, key)).job.id

    def finish(self, job_ids: list[str]) -> list[Job]:
        """Wait for jobs to succeed; returns them in the order they ran in. Raises RuntimeError for another end."""

        def ended() -> list[Job] | None:
            jobs = [self._scheduler.queue.get(job_id) for job_id in job_ids]
            return jobs if all(job.status.ended for job in jobs) else None

        jobs = self._wait(ended, _JOB_SECONDS * len(job_ids))
        for job in jobs:
            if job.status is not JobStatus.SUCCEEDED:
                raise RuntimeError(f"{job.id} ended as {job.status.value}: {job.error and job.error.message}")
        return sorted(jobs, key=lambda job: job.started_at or 0.0)

    def ended_attempts(self, job_ids: set[str]) -> list[dict[str, Any]]:
        """Return what the worker logs of the only attempt of each of these jobs, right after it has ended."""

        def logged() -> list[dict[str, Any]] | None:
            lines = (json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{"))
            found = [each for each in lines if each.get("event") == "attempt ended" and each["job_id"] in job_ids]
            return found if len(found) == len(job_ids) else None

        return self._wait(logged, _STOP_SECONDS)

    def _wait(self, look: Callable[[], T | None], seconds: float) -> T:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing came within {seconds:.0f} s: {self._log.read_text()[-2000:]}")
            time.sleep(_LOOK_SECONDS)
        return found


@contextmanager
def _running(subject: Subject, scratch: Path) -> Iterator[_Service]:
    """A service with one worker on the subject's device, stopped at the end."""
    given: dict[str, Any] = {
        "data_dir": scratch / "service",
        "models_dir": scratch,
        "model": "tiny" if subject.small else str(subject.folder.path),
        "device": "cpu" if subject.small else "cuda",
        "plans": subject.fastest_plan,
        "cpu_threads": 1 if subject.small else None,
        "batch_jobs": 1,
        "checkpoint_seconds": _CHECKPOINT_SECONDS,
        "log_format": "json",
    }
    settings = WorkerSettings(**given)
    image = scratch / "image.png"
    Image.effect_mandelbrot((640, 512), (-2, -1, 1, 1), 50).convert("RGB").save(image)
    with Scheduler.open(settings) as scheduler:
        service = _Service(settings, scheduler, image, scratch / "service.log")
        child = service.start()
        try:
            yield service
        finally:
            child.terminate()
            child.finish(_STOP_SECONDS)
