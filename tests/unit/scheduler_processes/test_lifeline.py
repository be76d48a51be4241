"""The lifeline: a child ends with its parent, however the parent ends."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scheduler.processes import watch_parent
from tests.support.service import wait_for

_CHILD = """
import os, pathlib, sys, time
from scheduler.processes import announce_ready, watch_parent

def gone():
    pathlib.Path(sys.argv[1]).write_text("parent gone")
    os._exit(3)

watch_parent(gone)
assert "REELQ_LIFELINE" not in os.environ  # it is between these two alone
announce_ready()
time.sleep(600)
"""
_PARENT = f"""
import os, sys
from scheduler.processes import Child
children = [Child([sys.executable, "-c", {_CHILD!r}, f"{{sys.argv[1]}}-{{number}}"], {{}}) for number in range(2)]
assert all(child.ready.wait(10) for child in children)
print(*(child.pid for child in children), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with two children that watch it."""
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "gone")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None], ids=["killed", "terminated", "exits"])
def test_children_notice_the_end_of_their_parent(
    end: signal.Signals | None, parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert parent.stdout is not None
    assert parent.stdin is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    if end is None:
        parent.stdin.close()
    else:
        parent.send_signal(end)
    parent.wait(10)
    wait_for(lambda: not any(map(_runs, children)), "the children to end")
    assert [(tmp_path / f"gone-{number}").read_text() for number in range(2)] == ["parent gone"] * 2


def test_a_process_that_nobody_watches_over_watches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REELQ_LIFELINE", raising=False)
    before = threading.enumerate()
    watch_parent(lambda: pytest.fail("there is no parent to lose"))
    assert threading.enumerate() == before


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # init may be slow to collect it
    except psutil.NoSuchProcess:
        return False
