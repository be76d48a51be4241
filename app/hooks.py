"""What starts and stops machines: the operator's command, or webhook. Each is called with what is to be done.

The command runs without a shell. Environment variables tell it what to do, and its exit code tells whether that worked.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

import structlog

from app import provisioning
from app.exchanges import FetchFailed
from app.guarded import GuardedClient
from app.lookups import NoRoom
from app.signing import signed_headers
from app.urls import UrlNotAllowed
from scheduler.calls import Call, HookFailed

_POLL_SECONDS = 0.1  # between two looks whether to go on waiting for the command
_TAIL_BYTES = 400
_TAIL_LINES = 3
_MAX_ANSWER_BYTES = 4096  # nobody looks at it

log = structlog.get_logger(__name__)


class CommandHook:
    """Runs a command, for at most `timeout_seconds`, and not beyond `stopping`. Its last lines are kept."""

    def __init__(self, command: str, timeout_seconds: float, stopping: threading.Event) -> None:
        self._arguments = shlex.split(command)
        self._timeout_seconds = timeout_seconds
        self._stopping = stopping

    def __call__(self, call: Call) -> None:
        """Run it for a call; raises `HookFailed` where it ends with another code than 0, or not in time."""
        if self._stopping.is_set():  # to begin what is killed at once could leave half of it done
            raise HookFailed("it was not begun because the front end ends")
        try:
            with tempfile.TemporaryFile() as output:  # not a pipe: what it leaves running may keep that open
                process = self._begin(call, output)
                problem = self._wait(process)
                said = _tail(output)
        except OSError as error:
            raise HookFailed(f"its output cannot be kept: {error}") from error
        log.info("capacity command", id=call.id, action=call.action, exit_code=process.returncode, said=said)
        if problem is not None:
            raise HookFailed(f"{problem}: {said}" if said else problem)

    def _begin(self, call: Call, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                self._arguments,
                env=os.environ | variables(call),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise HookFailed(f"cannot be run: {error}") from error

    def _wait(self, process: "subprocess.Popen[bytes]") -> str | None:
        """Wait for its end; returns what went wrong."""
        deadline = time.monotonic() + self._timeout_seconds
        while not self._stopping.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_POLL_SECONDS)
                return None if code == 0 else f"it ended with {_told(code)}"
        why = f"it took longer than {self._timeout_seconds:g} s"
        if self._stopping.is_set():
            why = "it was cut off because the front end ends"
        try:
            os.killpg(process.pid, signal.SIGKILL)  # nobody has waited for it yet, so the id is still its own
        except PermissionError:  # sudo: it is another user's, and to wait for its end could take for ever
            threading.Thread(target=process.wait, name="capacity-command", daemon=True).start()
            return f"{why}, but runs on as another user"
        process.wait()
        return why


class WebhookHook:
    """Posts a signed message, as alerts are; `secrets` gives what to sign with, the newest first."""

    def __init__(
        self, url: str, timeout_seconds: float, client: GuardedClient, secrets: Callable[[], Sequence[str]]
    ) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._client = client
        self._secrets = secrets

    def __call__(self, call: Call) -> None:
        """Send a call; raises `HookFailed` where it is not answered with a 2xx."""
        now = time.time()
        body = provisioning.payload(call, now).model_dump_json().encode()
        signed = signed_headers(self._secrets(), call.id, int(now), body)
        try:
            answer = self._client.post(
                self._url,
                headers={"Content-Type": "application/json", **signed},
                content=body,
                timeout_seconds=self._timeout_seconds,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except UrlNotAllowed as refused:
            raise HookFailed(f"the URL {refused}") from refused
        except (FetchFailed, NoRoom) as failed:
            raise HookFailed(str(failed)) from failed
        log.info("capacity webhook", id=call.id, action=call.action, status=answer.status)
        if not 200 <= answer.status < 300:
            raise HookFailed(f"the server answered {answer.status}")


def variables(call: Call) -> dict[str, str]:
    """Return the environment variables that tell a command of a call; what does not apply is empty."""
    told = {
        "id": call.id,
        "action": call.action,
        "count": call.count,
        "host": call.host or "",
        "gpu": ",".join(call.gpus),
        "wanted": call.wanted,
        "online": call.online,
        "reason": call.reason,
    }
    return {f"REELQ_CAPACITY_{name.upper()}": str(value) for name, value in told.items()}


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL_BYTES))
    lines = output.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    said = " | ".join([line.strip() for line in lines if line.strip()][-_TAIL_LINES:])
    return "".join(char if char.isprintable() else " " for char in said)  # PostgreSQL keeps no NUL


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
