"""How long until a job runs again after its worker process was killed and only its lease can tell, by default settings.

`python -m benchmarks.queue.crash URL FOLDER WORKER` is the process to kill: it claims a job and keeps its lease.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.queue.children import Child, Program, running, wait_for_line
from benchmarks.queue.play import hearing
from benchmarks.queue.reelq import TOTAL_BYTES, gpu_id, new_job, opened, register_worker
from scheduler.policy import Policy
from scheduler.records import Progress
from scheduler.service import Scheduler
from scheduler.states import Stage

_CLAIMED = "claimed"
_REAP_SECONDS = 1.0  # as the front end does
_RUN_SECONDS = 4.0  # before the kill: leases have been extended by then


@dataclass(frozen=True, slots=True)
class _Site:
    """One database with workers to kill; `ran_at` waits for the next job that another worker runs."""

    victims: list[Child]
    ran_at: Callable[[], float]


def measure(programs: Sequence[Program], kills: int) -> list[list[float]]:
    """Kill `kills` workers on each database at once; return the seconds until each job ran again, by database."""
    with ExitStack() as stack:
        sites = [stack.enter_context(_site(program, kills)) for program in programs]
        time.sleep(_RUN_SECONDS)
        killed_at = time.monotonic()
        for site in sites:
            for victim in site.victims:
                victim.kill()
        return [[site.ran_at() - killed_at for _ in range(kills)] for site in sites]


@contextmanager
def _site(program: Program, kills: int) -> Iterator[_Site]:
    with ExitStack() as stack:
        scheduler = stack.enter_context(opened(program.url, program.folder))
        for _ in range(kills):
            scheduler.queue.submit(new_job())
        ran_at = stack.enter_context(hearing(program.folder))
        command = [str(program.python), "-m", __name__, program.url, str(program.folder)]
        victims = [stack.enter_context(running([*command, str(number)])) for number in range(kills)]
        for victim in victims:
            wait_for_line(victim, _CLAIMED)
        stack.enter_context(_reaping(scheduler))
        stack.enter_context(program.playing("serve", worker=kills))
        yield _Site(victims, ran_at)


@contextmanager
def _reaping(scheduler: Scheduler) -> Iterator[None]:
    done = threading.Event()

    def reap() -> None:
        while not done.wait(_REAP_SECONDS):
            scheduler.reaper.run_once()

    thread = threading.Thread(target=reap, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _hold(url: str, folder: Path, worker: int) -> None:
    with opened(url, folder) as scheduler:
        gpu = gpu_id(worker)
        lease = scheduler.queue.claim(register_worker(scheduler, gpu), gpu, TOTAL_BYTES)
        assert lease is not None
        print(_CLAIMED, flush=True)
        while True:
            time.sleep(Policy().lease_seconds / 4)
            scheduler.leases.report(lease, Progress(Stage.DENOISING, step=1, steps=50, fraction=0.02))


if __name__ == "__main__":
    _hold(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
