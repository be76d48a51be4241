"""BentoML's task API: submit answers with a task's id, and the task runs in the background of the same process."""

import os
import time
from pathlib import Path

import bentoml

from benchmarks.http.leash import LEASHED, leash

if os.getpid() != (server := int(os.environ[LEASHED])):  # this is its worker process, in a session of its own
    leash(server)


def _ran(prompt: str) -> str:
    if prompt == "report":
        print(f"ran {time.monotonic()}", flush=True)
    elif prompt == "stay":
        time.sleep(600)
    return "done"


@bentoml.service(workers=1)
class Animate:
    """Takes what the front end takes, and makes nothing of it."""

    @bentoml.task  # type: ignore[untyped-decorator]
    def animate(self, image: Path, prompt: str) -> str:  # noqa: ARG002  it is what is sent that counts
        """Take a form with a file."""
        return _ran(prompt)

    @bentoml.task  # type: ignore[untyped-decorator]
    def animate_json(self, image: str, prompt: str) -> str:  # noqa: ARG002  likewise
        """Take JSON with a data URI."""
        return _ran(prompt)
