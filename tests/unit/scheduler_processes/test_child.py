"""Child processes: readiness, the end they are asked for and the one they are given, and what is left of them."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scheduler.processes import Child
from tests.support.service import wait_for

Spawn = Callable[..., Child]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start Python code as a child; every child is ended with the test."""
    children: list[Child] = []

    def start(code: str, **environment: str) -> Child:
        child = Child([sys.executable, "-c", f"import os, signal, sys, time\n{code}"], environment)
        children.append(child)
        return child

    yield start
    for child in children:
        if child.exit_code() is None:
            os.kill(child.pid, signal.SIGKILL)
        child.finish(5)


_SAY_READY = "from scheduler.processes import announce_ready; announce_ready()\n"
_WAIT = "sys.stdin.read()\n"


@pytest.mark.parametrize(
    "code",
    [
        _SAY_READY,
        "print('loading', flush=True)\n" + _SAY_READY,
        "print('ready\\nand a line in the same write', flush=True)\n",
    ],
    ids=["alone", "after another line", "before another line"],
)
def test_a_child_says_that_it_is_ready(code: str, spawn: Spawn) -> None:
    assert spawn(code + _WAIT).ready.wait(10)


@pytest.mark.parametrize("line", ["already", "not ready yet", "ready?"])
def test_nothing_else_counts_as_ready(line: str, spawn: Spawn) -> None:
    child = spawn(f"print({line!r}, flush=True)")
    assert child.wait(10) == 0
    wait_for(lambda: not _listeners(), "the listening thread to end")
    assert not child.ready.is_set()


def test_the_exit_code_is_known_without_waiting(spawn: Spawn) -> None:
    child = spawn(_WAIT + "sys.exit(7)")
    assert child.exit_code() is None
    assert child.wait(0.01) is None
    child.close()  # end-of-file on its stdin
    assert child.wait(10) == 7
    assert child.exit_code() == 7


def test_terminate_is_sigterm_and_may_come_too_late(spawn: Spawn) -> None:
    child = spawn(_SAY_READY + _WAIT)
    assert child.ready.wait(10)
    child.terminate()
    assert child.finish(10) == -signal.SIGTERM
    child.terminate()
    assert child.finish(0) == -signal.SIGTERM


def test_finish_kills_what_does_not_end(spawn: Spawn) -> None:
    child = spawn("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + _SAY_READY + "time.sleep(600)")
    assert child.ready.wait(10)
    child.terminate()
    assert child.finish(0.2) == -signal.SIGKILL
    assert not psutil.pid_exists(child.pid)


def test_a_child_gets_our_environment_and_what_is_added(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    child = spawn("sys.exit(int(os.environ['OURS'] + os.environ['ADDED']))", ADDED="2")
    assert child.wait(10) == 12


def test_ctrl_c_in_our_terminal_does_not_reach_a_child(spawn: Spawn) -> None:
    child = spawn(_WAIT)
    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_nothing_is_left_of_ended_children(spawn: Spawn) -> None:
    spawn("").finish(10)  # whatever the first one opens for good
    wait_for(lambda: not _listeners(), "the listening thread to end")
    before = _descriptors()
    for _ in range(5):
        assert spawn(_SAY_READY).finish(10) == 0
    wait_for(lambda: not _listeners(), "the listening threads to end")
    assert _descriptors() == before
    assert [each for each in psutil.Process().children() if each.status() == psutil.STATUS_ZOMBIE] == []


def test_children_do_not_hold_each_others_lifelines(spawn: Spawn) -> None:
    first = spawn(_WAIT)
    second = spawn(_SAY_READY + _WAIT)
    assert second.ready.wait(10)
    first.close()
    assert first.wait(10) == 0  # it saw end-of-file, although the second lives


def _listeners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "child-ready"]


def _descriptors() -> set[str]:
    """Our open pipes and sockets; other descriptors may come and go with the interpreter."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # the listing's own
        if target.startswith(("pipe:", "socket:")):
            found.add(target)
    return found
