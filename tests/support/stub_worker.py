"""A GPU worker without a model or a GPU: it registers, claims and reports as a real one, and its jobs never end.

For tests of a supervisor with real processes and signals. What the GPU has free, it takes from the last sample.
"""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from scheduler.errors import LeaseLost
from scheduler.processes import announce_ready, watch_parent
from scheduler.records import Lease, Progress, Worker
from scheduler.service import Scheduler
from scheduler.states import Directive, GpuState, Stage
from workers.settings import WorkerSettings

RESIDENT_BYTES = 2**30
_HALF_WAY = Progress(Stage.DENOISING, step=25, steps=50, fraction=0.5)


def executable(folder: Path, python: str) -> str:
    """Return a program that stands for the interpreter in a slot's command, and runs this module instead."""
    program = folder / "stub-python"
    program.write_text(f'#!/bin/sh\nshift 3\nexec {python} -m tests.support.stub_worker "$@"\n')
    program.chmod(0o700)
    return str(program)


def main(
    gpu: Annotated[str, typer.Option()], slot: Annotated[int, typer.Option()], worker_id: Annotated[str, typer.Option()]
) -> None:
    """Serve one GPU until SIGTERM, the end of the parent, or a drain."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    watch_parent(stopping.set)
    with Scheduler.open(WorkerSettings()) as scheduler:
        model = scheduler.fleet.gpu(gpu).info.model
        scheduler.fleet.register_worker(Worker(worker_id, gpu, os.getpid(), model, RESIDENT_BYTES, ready=True))
        announce_ready()
        lease: Lease | None = None
        while not stopping.wait(0.05) and (lease is not None or _active(scheduler, gpu)):
            scheduler.fleet.touch_worker(worker_id)
            if lease is None:
                lease = scheduler.queue.claim(worker_id, gpu, scheduler.fleet.gpu(gpu).sample.free_bytes or 0)
            else:
                lease = _reported(scheduler, lease)
        if lease is not None:
            scheduler.leases.release(lease)


def _active(scheduler: Scheduler, gpu: str) -> bool:
    return scheduler.fleet.gpu(gpu).state is GpuState.ACTIVE


def _reported(scheduler: Scheduler, lease: Lease) -> Lease | None:
    """Report, and give the job back when that is asked for; None once it is not this worker's any more."""
    try:
        if scheduler.leases.report(lease, _HALF_WAY) is Directive.CONTINUE:
            return lease
        scheduler.leases.release(lease)
    except LeaseLost:
        pass
    return None


if __name__ == "__main__":
    typer.run(main)
