"""Capacity by a command that starts and stops real workers on this machine: paid only while they work."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.service import TINY, Service, alive, wait_for

pytestmark = pytest.mark.acceptance

HOOK = """
import os, pathlib, signal, subprocess, sys

started = pathlib.Path(__file__).with_name("started")
started.mkdir(exist_ok=True)
if os.environ["REELQ_CAPACITY_ACTION"] == "start":
    mine = started / os.environ["REELQ_CAPACITY_ID"]
    if not mine.exists():  # a repeat finds its machine
        with (started.parent / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "workers"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        mine.write_text(str(worker.pid))
else:
    for mine in started.iterdir():
        os.kill(int(mine.read_text()), signal.SIGTERM)
        mine.rename(started.parent / f"stopped-{mine.name}")
"""


class FrontEnd(Service):
    """`reelq serve`, whose workers the hook starts and stops."""

    command = "serve"
    folder: Path

    def capacity(self) -> dict[str, Any]:
        """GET the capacity."""
        answer = self.client.get("/v1/admin/capacity")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def calls(self) -> list[tuple[str, str]]:
        """What the hook was called for, the first one first, and what came of it."""
        return [(call["action"], call["status"]) for call in self.capacity()["calls"]][::-1]

    def supervisors(self) -> list[psutil.Process]:
        """The processes that the hook has started, as far as they are still there."""
        found = []
        for mine in (*self.folder.glob("started/*"), *self.folder.glob("stopped-*")):
            try:
                found.append(psutil.Process(int(mine.read_text())))
            except psutil.NoSuchProcess:
                continue
        return found

    def told(self) -> str:
        """What the service and its workers have written."""
        worker = self.folder / "worker.log"
        return f"{self.capacity()}\n{self.log()}\n{worker.read_text()[-3000:] if worker.exists() else ''}"


@pytest.fixture
def front_end(tmp_path: Path, models_dir: Path) -> Iterator[FrontEnd]:
    hook = tmp_path / "hook.py"
    hook.write_text(HOOK)
    running = FrontEnd(
        tmp_path / "data",
        models_dir,
        capacity_command=f"{sys.executable} {hook}",
        capacity_idle_seconds=1,
        gpu_prices='{"cpu": {"hour": 1.5, "terms": "on_demand"}}',
    )
    running.folder = tmp_path
    try:
        yield running
    finally:
        left = [child for one in running.supervisors() for child in (one, *one.children(recursive=True))]
        running.close()
        for process in left:
            if alive(process):
                os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs(left, timeout=10)


def test_workers_come_for_jobs_and_go_after_them(front_end: FrontEnd) -> None:
    front_end.start(ready=False)
    once = [("start", "done"), ("stop", "done")]
    # Where no GPU was ever known one comes, so that jobs can be measured; with nothing to do it goes again.
    wait_for(lambda: front_end.calls() == once, "a first GPU to be known", front_end.told, 120)
    wait_for(lambda: not front_end.gpu()["online"], "it to be gone", front_end.told)
    assert (front_end.gpu()["state"], front_end.gpu()["actor"]) == ("drained", "capacity")

    jobs = [front_end.submit(TINY)["id"] for _ in range(3)]
    assert "started again when there is work" in front_end.job(jobs[0])["queue"]["wait_reason"]
    wait_for(lambda: front_end.gpu()["workers"], "a worker to come", front_end.told, 120)
    ended = [front_end.wait(job) for job in jobs]
    assert [(job["status"], job["attempts"]) for job in ended] == [("succeeded", 1)] * 3

    wait_for(lambda: front_end.calls() == once * 2, "it to be stopped", front_end.told, 120)
    wait_for(lambda: not any(alive(one) for one in front_end.supervisors()), "its processes to end", front_end.told)
    assert (front_end.gpu()["state"], front_end.gpu()["actor"]) == ("drained", "capacity")
    found = front_end.client.get("/v1/admin/events", params={"subject": "capacity"}).json()["data"]
    assert [event["type"] for event in found] == ["capacity.start", "capacity.stop"] * 2
    assert front_end.stop() == 0
