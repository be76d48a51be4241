"""The command that starts and stops machines: what it is told, and what is made of how it ends."""

import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app.hooks import CommandHook, variables
from scheduler.calls import Call, HookFailed
from scheduler.states import CapacityAction
from tests.support.service import wait_for

START = Call(
    id="cap_1",
    action=CapacityAction.START,
    count=2,
    host=None,
    gpus=(),
    wanted=3,
    online=1,
    reason="9 jobs due; $(rm -rf /) 'quoted'",
    asked_at=1_800_000_000.0,
    tries=1,
    next_at=1_800_000_090.0,
    error=None,
    done_at=None,
    dropped_at=None,
)
STOP = replace(START, action=CapacityAction.STOP, host="node-1", gpus=("GPU-a", "GPU-b"))


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


def hook(tmp_path: Path, script: str, stopping: threading.Event, timeout_seconds: float = 60.0) -> CommandHook:
    path = tmp_path / "hook with a space.py"
    path.write_text(script)
    return CommandHook(f"{sys.executable} '{path}'", timeout_seconds, stopping)


def test_it_is_told_by_its_environment(tmp_path: Path, stopping: threading.Event) -> None:
    told = tmp_path / "told.json"
    script = f"import json, os; json.dump(dict(os.environ), open({str(told)!r}, 'w'))"
    run = hook(tmp_path, script, stopping)
    run(START)
    found = json.loads(told.read_text())
    assert {name: value for name, value in found.items() if name in variables(START)} == {
        "REELQ_CAPACITY_ID": "cap_1",
        "REELQ_CAPACITY_ACTION": "start",
        "REELQ_CAPACITY_COUNT": "2",
        "REELQ_CAPACITY_HOST": "",
        "REELQ_CAPACITY_GPU": "",
        "REELQ_CAPACITY_WANTED": "3",
        "REELQ_CAPACITY_ONLINE": "1",
        "REELQ_CAPACITY_REASON": START.reason,
    }
    assert found["PATH"] == os.environ["PATH"]
    run(STOP)
    found = json.loads(told.read_text())
    assert (found["REELQ_CAPACITY_HOST"], found["REELQ_CAPACITY_GPU"]) == ("node-1", "GPU-a,GPU-b")


@pytest.mark.parametrize(
    ("script", "problem", "last"),
    [
        ("raise SystemExit(3)", "it ended with exit code 3", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "it ended with signal 15", ""),
        ("print('no\\0quota\\033[31m'); raise SystemExit(4)", "it ended with exit code 4: no quota [31m", ""),
        (
            "import sys; print('a' * 9000); print('b'); print(); print('no quota', file=sys.stderr); sys.exit(1)",
            "it ended with exit code 1: aaa",
            "a | b | no quota",
        ),
    ],
)
def test_one_that_fails(tmp_path: Path, stopping: threading.Event, script: str, problem: str, last: str) -> None:
    with pytest.raises(HookFailed) as failed:
        hook(tmp_path, script, stopping)(START)
    assert str(failed.value).startswith(problem)
    assert str(failed.value).endswith(last)
    assert len(str(failed.value)) < 500


def test_one_that_is_not_there(stopping: threading.Event) -> None:
    with pytest.raises(HookFailed, match=r"cannot be run: .*no-such-command"):
        CommandHook("/no-such-command --start", 60.0, stopping)(START)


def test_one_that_takes_too_long_is_killed_with_its_children(tmp_path: Path, stopping: threading.Event) -> None:
    pids = tmp_path / "pids"
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "print('still at it', flush=True)\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(HookFailed, match=r"it took longer than 2 s: still at it"):
        hook(tmp_path, script, stopping, timeout_seconds=2.0)(START)
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: is_gone(int(pid)), f"{pid} to end")


def test_one_of_another_user_is_not_waited_for(
    tmp_path: Path, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def refuse(pid: int, sig: int) -> None:
        pids.append(pid)
        raise PermissionError(1, "Operation not permitted")

    run = hook(tmp_path, "import time; time.sleep(600)", stopping, timeout_seconds=0.2)
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", refuse)
        with pytest.raises(HookFailed, match=r"it took longer than 0\.2 s, but runs on as another user"):
            run(START)
    os.killpg(pids[0], 9)
    wait_for(lambda: is_gone(pids[0]), "the command to end")


def test_without_room_for_its_output_it_fails(stopping: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(HookFailed, match="No space left"):
        CommandHook("true", 60.0, stopping)(START)


def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path, stopping: threading.Event) -> None:
    pid = tmp_path / "pid"
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
    )
    hook(tmp_path, script, stopping)(START)
    left = int(pid.read_text())
    assert not is_gone(left)
    os.kill(left, 9)


def test_one_under_way_is_cut_off_at_the_end(tmp_path: Path, stopping: threading.Event) -> None:
    begun = tmp_path / "begun"
    run = hook(tmp_path, f"import time; open({str(begun)!r}, 'w').close(); time.sleep(600)", stopping)
    failures: list[str] = []

    def call() -> None:
        try:
            run(START)
        except HookFailed as failed:
            failures.append(str(failed))

    thread = threading.Thread(target=call)
    thread.start()
    wait_for(begun.exists, "the command to begin")
    began = time.monotonic()
    stopping.set()
    thread.join()
    assert time.monotonic() - began < 60
    assert failures == ["it was cut off because the front end ends"]


def test_none_is_begun_at_the_end(tmp_path: Path, stopping: threading.Event) -> None:
    begun = tmp_path / "begun"
    stopping.set()
    with pytest.raises(HookFailed, match="the front end ends"):
        CommandHook(f"touch {begun}", 60.0, stopping)(START)
    assert not begun.exists()


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has waited for it yet."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
