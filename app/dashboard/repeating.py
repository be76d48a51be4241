"""The command that submits a job once more, from a shell."""

import json
import shlex
from collections.abc import Collection

from scheduler.records import Job


def curl(job: Job, base_url: str, *, with_key: bool) -> str:
    """Return commands for curl that fetch a job's image and submit it again with all that was said of it.

    The key, where one is needed, is taken from the environment: `REELQ_API_KEY`.
    """
    key = ['-H "Authorization: Bearer $REELQ_API_KEY"'] if with_key else []
    image = f"{job.id}-image"
    fetch = ["curl -fsS", *key, f"-o {image}", shlex.quote(f"{base_url}/v1/jobs/{job.id}/image")]
    submit = [" ".join(["curl -fsS", *key, shlex.quote(f"{base_url}/v1/jobs"), f"-F image=@{image}"])]
    # Not -F: it would read a value that begins with @ or < from a file.
    submit += [f"--form-string {shlex.quote(f'{name}={value}')}" for name, value in _fields(job).items()]
    return " ".join(fetch) + "\n" + " \\\n  ".join(submit)


def _fields(job: Job) -> dict[str, str]:
    given = {
        "model": job.model,
        "prompt": job.prompt,
        **job.params.to_dict(),
        "priority": job.priority,
        "window": job.window,
        "webhook_url": job.webhook_url,
        "webhook_events": _json(list(job.webhook_events)),
        "result_ttl_seconds": job.result_ttl_seconds,
        "metadata": _json(dict(job.metadata)),
    }
    return {name: _text(value) for name, value in given.items() if value is not None and value is not False}


def _json(value: Collection[object]) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None


def _text(value: object) -> str:
    return "true" if value is True else str(value)
