"""A worker that computes nothing: it claims on wake-ups, says when it had the job, and ends it.

    python -m benchmarks.http.worker DATA_DIR

Prints `ready`, then `ran SECONDS` for each job: when its claim was committed, on the system's monotonic clock.
"""

import sys
import time
from pathlib import Path

from benchmarks.queue.reelq import POLL_SECONDS, TOTAL_BYTES, gpu_id, opened, register_worker, succeed
from scheduler.store.database import sqlite_url
from scheduler.wakeup import DISPATCH


def main(data_dir: Path) -> None:
    """Work until killed."""
    gpu = gpu_id(0)
    with (
        opened(sqlite_url(data_dir / "reelq.db"), data_dir) as scheduler,
        scheduler.wakeup.listen(DISPATCH) as listener,
    ):
        worker_id = register_worker(scheduler, gpu)
        print("ready", flush=True)
        while True:
            lease = scheduler.queue.claim(worker_id, gpu, TOTAL_BYTES)
            if lease is None:
                listener.wait(POLL_SECONDS)
                continue
            now = time.monotonic()
            succeed(scheduler, lease)
            print(f"ran {now}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
