"""This project's queue, as one process of it uses it: a fleet of registered GPUs, and the calls on the queue."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from benchmarks.queue.systems import PAYLOAD, Calls, ThreadedSystem
from scheduler import ids
from scheduler.params import VideoParams
from scheduler.plans import GPU_PLANS
from scheduler.policy import Policy
from scheduler.records import GpuInfo, GpuSample, Lease, Measured, NewJob, Result, ServedModel, Worker
from scheduler.service import Scheduler
from scheduler.settings import StoreSettings
from scheduler.wakeup import DISPATCH

GIB = 2**30
TOTAL_BYTES = 24 * GIB
GPUS = 4
POLL_SECONDS = 0.5  # how often an idle GPU worker looks by default
MODEL = ServedModel("ali-vilab/i2vgen-xl", "i2vgen-xl", weights_bytes=4_970_000_000, fingerprint="f" * 64)
# Twenty shapes of as many memory classes, from half a GiB to eleven.
SHAPES = tuple(
    VideoParams(width, height, num_frames, 50, 9.0, 16, seed=7)
    for (width, height), num_frames in product(
        ((320, 320), (512, 512), (768, 576), (1024, 576), (896, 896)), (8, 16, 24, 32)
    )
)
_MEASURED = Measured(vram_peak_bytes=7 * GIB, run_seconds=12.5)


@contextmanager
def opened(url: str, folder: Path, *, reserve_after_seconds: float = 300.0) -> Iterator[Scheduler]:
    """Open the scheduler on the database `url`, with its default settings but for what is named."""
    settings = StoreSettings.model_validate(
        {"data_dir": folder, "database_url": url, "reserve_after_seconds": reserve_after_seconds}
    )
    with Scheduler.open(settings) as scheduler:
        yield scheduler


def register_fleet(scheduler: Scheduler) -> None:
    """Register the GPUs, each of 24 GiB."""
    kind = "NVIDIA GeForce RTX 3090"
    infos = [
        GpuInfo(gpu_id(number), "host-0", MODEL.id, kind, kind, GPU_PLANS, TOTAL_BYTES, headroom_bytes=GIB)
        for number in range(GPUS)
    ]
    scheduler.fleet.register(MODEL, infos)
    for info in infos:
        scheduler.fleet.sample(info.id, GpuSample(used_bytes=0, free_bytes=TOTAL_BYTES))


def register_worker(scheduler: Scheduler, gpu: str) -> str:
    """Register this process as the ready worker of `gpu`, in place of the one before; return the worker's id."""
    worker = Worker(f"worker-of-{gpu}", gpu, os.getpid(), MODEL.id, resident_bytes=6 * GIB, ready=True)
    scheduler.fleet.register_worker(worker)
    return worker.id


def gpu_id(number: int) -> str:
    """Return the id of the fleet's GPU of that number."""
    return f"GPU-{number}"


def new_job(params: VideoParams = SHAPES[0], prompt: str = "a red kite over the sea") -> NewJob:
    """Return a job to submit."""
    job_id = ids.new_id("job")
    return NewJob(job_id, MODEL.id, prompt, params, image_key=f"jobs/{job_id}/input.png")


def succeed(scheduler: Scheduler, lease: Lease) -> None:
    """End a job as a worker does that has published its video."""
    folder = f"jobs/{lease.job_id}/{lease.fence}"
    width, height, num_frames = lease.params.width, lease.params.height, lease.params.num_frames
    video, thumbnail = f"{folder}/video.mp4", f"{folder}/thumbnail.webp"
    result = Result(video, thumbnail, 1_000_000, "0" * 64, width, height, num_frames, 16, num_frames / 16)
    scheduler.leases.succeed(lease, result, _MEASURED)


class Reelq(ThreadedSystem):
    """The front end's calls from threads, and a GPU worker's loop, each worker on a GPU of its own."""

    def install(self) -> None:
        """Migrate the database and register the fleet."""
        with opened(self.url, self.folder) as scheduler:
            register_fleet(scheduler)

    def fill(self, jobs: int) -> None:
        """Submit in batches."""
        with opened(self.url, self.folder) as scheduler:
            scheduler.queue.submit_many([new_job() for _ in range(jobs)])

    @contextmanager
    def calls(self) -> Iterator[Calls]:
        """Submit, claim and succeed."""
        with opened(self.url, self.folder) as scheduler:
            gpu = gpu_id(self.worker)
            worker_id = register_worker(scheduler, gpu)
            yield Calls(
                submit=lambda: scheduler.queue.submit(new_job(prompt=PAYLOAD)),
                claim=lambda: scheduler.queue.claim(worker_id, gpu, TOTAL_BYTES),
                finish=lambda lease: succeed(scheduler, lease),
            )

    def submit_batches(self, jobs: int, batch: int) -> float:
        """Submit `jobs` in batches of so many a call; return jobs/s."""
        with opened(self.url, self.folder) as scheduler:
            batches = [[new_job(prompt=PAYLOAD) for _ in range(batch)] for _ in range(jobs // batch)]
            started = time.monotonic()
            for each in batches:
                scheduler.queue.submit_many(each)
            return jobs // batch * batch / (time.monotonic() - started)

    def work(self, ran: Callable[[], None], *, until_empty: bool) -> None:
        """Claim, run and succeed, waiting for wake-ups between."""
        with opened(self.url, self.folder) as scheduler, scheduler.wakeup.listen(DISPATCH) as listener:
            gpu = gpu_id(self.worker)
            worker_id = register_worker(scheduler, gpu)
            threading.Thread(target=_keep_alive, args=(scheduler, worker_id), daemon=True).start()
            while True:
                lease = scheduler.queue.claim(worker_id, gpu, TOTAL_BYTES)
                if lease is not None:
                    ran()
                    succeed(scheduler, lease)
                elif until_empty:
                    return
                else:
                    listener.wait(POLL_SECONDS)


def _keep_alive(scheduler: Scheduler, worker_id: str) -> None:
    """Beat as a worker's heartbeat does between jobs."""
    while scheduler.fleet.touch_worker(worker_id):
        time.sleep(Policy().lease_seconds / 4)


SYSTEM = Reelq
