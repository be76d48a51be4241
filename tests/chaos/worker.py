"""A worker process of a campaign: claims, reports and ends attempts as a GPU worker does, and computes nothing."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Self, TypeVar

from scheduler.errors import LeaseLost, StoreUnreachable
from scheduler.processes import announce_ready, watch_parent
from scheduler.records import Lease, Progress, Result
from scheduler.service import Scheduler
from scheduler.states import Directive, Stage
from scheduler.wakeup import DISPATCH, Listener
from tests.chaos import world
from tests.chaos.journal import Journal, Kind
from tests.support.fleet import ERROR, MEASURED, open_scheduler

_POLL_SECONDS = 0.25
_STEP_SECONDS = 0.02  # at most; much of an attempt's time passes outside transactions, as in a real one
_SECOND_STEP_SECONDS = 0.2
_MOST_REPORTS = 2
_ENDINGS = {"succeed": 0.95, "retry": 0.025, "release": 0.025}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Post:
    """Where a worker process works, as its command line says it in JSON."""

    url: str
    data_dir: str
    journals: str
    worker_id: str
    gpu_id: str
    seed: int

    def command(self) -> list[str]:
        """Return the command that starts the process."""
        return [sys.executable, "-m", "tests.chaos.worker", json.dumps(asdict(self))]

    @classmethod
    def from_command_line(cls) -> Self:
        """Read what `command` wrote."""
        return cls(**json.loads(sys.argv[1]))


def main() -> None:
    """Work until SIGTERM or the end of the parent."""
    post = Post.from_command_line()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    watch_parent(lambda: os._exit(1))
    with (
        open_scheduler(post.url, Path(post.data_dir), world.POLICY) as scheduler,
        Journal(Path(post.journals), post.worker_id) as journal,
        scheduler.wakeup.listen(DISPATCH) as listener,
    ):
        ChaosWorker(post, scheduler, journal).serve(stopping, listener)


class ChaosWorker:
    """Runs attempts whose course the seed decides."""

    def __init__(self, post: Post, scheduler: Scheduler, journal: Journal) -> None:
        self._record = world.worker(post.worker_id, post.gpu_id, os.getpid())
        self._free_bytes = world.gpu(post.gpu_id).total_bytes
        self._scheduler = scheduler
        self._journal = journal
        self._dice = Random(post.seed)  # noqa: S311  a campaign can be repeated
        self._heard_at = 0.0

    def serve(self, stopping: threading.Event, listener: Listener) -> None:
        """Register, then run attempts until `stopping`; a store that is away is waited for."""
        world.insist(lambda: self._scheduler.fleet.register_worker(self._record))
        announce_ready()
        while not stopping.is_set():
            try:
                lease = self._scheduler.queue.claim(self._record.id, self._record.gpu_id, self._free_bytes)
                if lease is None:
                    self._show_life()
            except StoreUnreachable:
                time.sleep(world.RETRY_SECONDS)
                continue
            if lease is None:
                listener.wait(_POLL_SECONDS)
            else:
                self._run(lease)

    def _show_life(self) -> None:
        """Be seen now and then, and register again if given up: it may have been stopped for long."""
        if time.monotonic() - self._heard_at < world.POLICY.lease_seconds / 4:
            return
        if not self._scheduler.fleet.touch_worker(self._record.id):
            self._scheduler.fleet.register_worker(self._record)
        self._heard_at = time.monotonic()

    def _run(self, lease: Lease) -> None:
        self._journal.note(Kind.CLAIMED, "claim", lease, time.time())
        leases = self._scheduler.leases
        endings: dict[str, Callable[[], object]] = {
            "succeed": lambda: leases.succeed(lease, _result(lease), MEASURED),
            "retry": lambda: leases.retry(lease, ERROR),
            "release": lambda: leases.release(lease),
        }
        ending = self._dice.choices([*_ENDINGS], [*_ENDINGS.values()])[0]
        try:
            for step in range(1, self._dice.randint(0, _MOST_REPORTS) + 1):
                self._compute(lease)
                progress = Progress(Stage.DENOISING, step, lease.params.num_inference_steps, step / 10)
                if self._call("report", lease, partial(leases.report, lease, progress)) is not Directive.CONTINUE:
                    ending = "release"
                    break
            self._compute(lease)
            self._journal.note(Kind.ENDING, ending, lease, time.time())
            self._call(ending, lease, endings[ending])
        except LeaseLost:
            return

    def _call(self, name: str, lease: Lease, call: Callable[[], _T]) -> _T:
        """Make a fenced call until it is answered, and keep the answer."""
        began_at = time.time()
        try:
            answer = world.insist(call, lambda: self._journal.note(Kind.UNANSWERED, name, lease, began_at))
        except LeaseLost:
            self._journal.note(Kind.REFUSED, name, lease, began_at)
            raise
        self._journal.note(Kind.ACCEPTED, name, lease, began_at)
        return answer

    def _compute(self, lease: Lease) -> None:
        """Take a while; after a first attempt longer, so that a stale worker of the job meets another at work."""
        longest = _STEP_SECONDS if lease.fence == 1 else _SECOND_STEP_SECONDS
        time.sleep(self._dice.uniform(0.0, longest))


def _result(lease: Lease) -> Result:
    """A result that tells which attempt made it."""
    prefix = f"jobs/{lease.job_id}/{lease.fence}"
    shape = lease.params
    return Result(
        video_key=f"{prefix}/video.mp4",
        thumbnail_key=f"{prefix}/thumbnail.webp",
        bytes=1000,
        sha256="0" * 64,
        width=shape.width,
        height=shape.height,
        num_frames=shape.num_frames,
        fps=shape.target_fps,
        duration_seconds=shape.num_frames / shape.target_fps,
    )


if __name__ == "__main__":
    main()
