"""The processes of a campaign: eight workers and a reaper, each replaced by a new one when it is killed."""

import os
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scheduler.ids import new_id
from scheduler.processes import Child
from tests.chaos import reaper, world
from tests.chaos.worker import Post

_READY_SECONDS = 60.0
_END_SECONDS = 60.0
_REAPER_PLACE = 0
_EXCEPTION = re.compile(r"[\w.]+: ")


@dataclass(slots=True)
class Member:
    """One process: a worker of a GPU, or the reaper, which has no worker's id."""

    child: Child
    worker_id: str | None
    place: int
    stopped_at: float | None = None  # by the monotonic clock
    had_job_id: str | None = None  # the job whose lease it held when it was stopped

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self.worker_id or "the reaper"


class Crew:
    """All processes; `journals` is the folder for what the workers are told. `close` leaves none running."""

    def __init__(self, url: str, folder: Path, journals: Path, dice: Random) -> None:
        self._url = url
        self._folder = folder
        self._journals = journals
        self._dice = dice
        self._errors = folder / "stderr.log"
        self._members: list[Member] = []
        self.worker_ids: list[str] = []  # of all that were ever started
        self.started = 0

    def start(self) -> None:
        """Start everyone; returns when all are up."""
        for place in range(1 + len(world.GPU_IDS) * world.WORKERS_PER_GPU):
            self._start(place)
        for member in self._members:
            assert member.child.ready.wait(_READY_SECONDS), f"{member.name} does not start: {self._last_error()}"

    def running(self) -> list[Member]:
        """Return who is not stopped."""
        return [member for member in self._members if member.stopped_at is None]

    def stopped(self) -> list[Member]:
        """Return who is."""
        return [member for member in self._members if member.stopped_at is not None]

    def kill(self, member: Member) -> None:
        """SIGKILL a process and wait for its end; nobody takes its place yet."""
        os.kill(member.child.pid, signal.SIGKILL)  # ends a stopped one too
        member.child.finish(_END_SECONDS)
        self._members.remove(member)

    def replace(self, member: Member) -> None:
        """Start another process in the place of one that has ended."""
        self._start(member.place)

    def stop(self, member: Member) -> None:
        """SIGSTOP a process."""
        os.kill(member.child.pid, signal.SIGSTOP)
        member.stopped_at = time.monotonic()

    def resume(self, member: Member) -> None:
        """SIGCONT a stopped process."""
        os.kill(member.child.pid, signal.SIGCONT)
        member.stopped_at = member.had_job_id = None

    def replace_fallen(self) -> list[str]:
        """Replace who has ended without being killed; returns a line about each."""
        fallen = [member for member in self._members if member.child.exit_code() is not None]
        for member in fallen:
            self._members.remove(member)
            self.replace(member)
        return [self._ended_badly(member, member.child.finish(0.0)) for member in fallen]

    def end(self) -> list[str]:
        """Let everyone come to an end in order (SIGTERM); returns a line about each who did not."""
        for member in self.stopped():
            self.resume(member)
        for member in self._members:
            member.child.ready.wait(_READY_SECONDS)  # before that, the signal would kill it
            member.child.terminate()
        codes = [(member, member.child.finish(_END_SECONDS)) for member in self._members]
        self._members.clear()
        return [self._ended_badly(member, code) for member, code in codes if code != 0]

    def close(self) -> None:
        """Kill whoever is left."""
        for member in list(self._members):
            self.kill(member)

    def _start(self, place: int) -> None:
        self.started += 1
        if place == _REAPER_PLACE:
            self._members.append(Member(self._child(reaper.command(self._url, self._folder)), None, place))
            return
        post = Post(
            url=self._url,
            data_dir=str(self._folder),
            journals=str(self._journals),
            worker_id=new_id("worker"),
            gpu_id=world.GPU_IDS[place % len(world.GPU_IDS)],
            seed=self._dice.getrandbits(32),
        )
        self.worker_ids.append(post.worker_id)
        self._members.append(Member(self._child(post.command()), post.worker_id, place))

    def _child(self, command: Sequence[str]) -> Child:
        redirected = ("sh", "-c", 'exec "$@" 2>>"$0"', str(self._errors))
        return Child([*redirected, *command], {"PYTHONPATH": str(world.ROOT)})

    def _ended_badly(self, member: Member, code: int) -> str:
        return f"{member.name} ended with {code}: {self._last_error()}"

    def _last_error(self) -> str:
        """The last line of the workers' stderr that names an exception."""
        lines = self._errors.read_text(errors="replace").splitlines() if self._errors.exists() else []
        return next((line for line in reversed(lines) if _EXCEPTION.match(line)), "nothing on its stderr")
