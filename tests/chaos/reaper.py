"""The reaper process of a campaign: the reaper's rounds, and a supervisor's looks at the GPUs."""

import os
import signal
import sys
import threading
from pathlib import Path

from scheduler.errors import StoreUnreachable
from scheduler.processes import announce_ready, watch_parent
from tests.chaos import world
from tests.support.fleet import open_scheduler


def command(url: str, data_dir: Path) -> list[str]:
    """Return the command that starts the process."""
    return [sys.executable, "-m", "tests.chaos.reaper", url, str(data_dir)]


def main() -> None:
    """Reap until SIGTERM or the end of the parent; a store that is away is waited for."""
    url, data_dir = sys.argv[1:]
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    watch_parent(lambda: os._exit(1))
    with open_scheduler(url, Path(data_dir), world.POLICY) as scheduler:
        announce_ready()
        while not stopping.wait(world.REAPER_SECONDS):
            try:
                world.look(scheduler)
                scheduler.reaper.run_once()
            except StoreUnreachable:
                continue


if __name__ == "__main__":
    main()
