"""Stands in for `reelq up` in the demo's tests: `demo_service.py PORT PIDFILE MODE`.

MODE: `work` finishes every job, `hang` never does, `deaf` never answers and ignores SIGTERM, `die` ends at once.
"""

import hashlib
import os
import signal
import sys
import threading
from pathlib import Path

from tests.support.api_objects import make_job
from tests.support.scripted_api import VIDEO, Answer, Api


def main() -> int:
    port, pidfile, mode = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pidfile.write_text(f"{os.getpid()} {os.environ.get('REELQ_DATABASE_URL')}")
    if mode == "die":
        sys.stdout.write("line one\nthe model cannot be made\n")
        return 3
    if mode != "deaf":
        api = Api(port)
        api.on("GET", "/readyz", Answer({}))
        finished = make_job("succeeded", sha256=hashlib.sha256(VIDEO).hexdigest(), video_bytes=len(VIDEO))
        api.job(*([make_job("running")] if mode == "hang" else [make_job(), make_job("running"), finished]))
        stop.wait()
        api.close()
    stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
