"""What a host's processes log: one JSON object a line, and whatever is about a job names its attempt and its lease."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import wait_for
from tests.support.worker_host import LONG, TINY, WorkerHost


@pytest.fixture
def host(tmp_path: Path, models_dir: Path) -> Iterator[WorkerHost]:
    host = WorkerHost(tmp_path, models_dir, batch_jobs=1, checkpoint_seconds=0.05, log_format="json")
    yield host
    host.close()


def lines(host: WorkerHost) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.stderr.read_text().splitlines()]


def test_each_line_about_a_job_names_it_and_its_attempt_and_its_lease(host: WorkerHost) -> None:
    host.start()
    worker = host.ready_worker()
    long, short = host.submit(LONG), host.submit(replace(TINY, seed=2))
    wait_for(lambda: host.scheduler.queue.get(long).checkpoint_step, "a checkpoint", host.log)
    (process,) = (each for each in host.processes() if each.pid == worker.pid)
    process.kill()
    host.ready_worker(besides=worker.pid)
    host.succeeded(long)
    host.succeeded(short)
    wait_for(lambda: _ended(host, long) and _ended(host, short), "the last lines", host.log)
    for job_id in (long, short):
        told = [line for line in lines(host) if job_id in json.dumps(line)]
        attempts = {(each.number, each.fence) for each in host.scheduler.queue.attempts(job_id)}
        assert {(line.get("attempt"), line.get("lease")) for line in told} == attempts, told
        assert {line.get("job_id") for line in told} == {job_id}, told
    events = {(line["event"], line["lease"]) for line in lines(host) if line.get("job_id") == long}
    assert events >= {("attempt started", 1), ("lease taken back", 1), ("resumed", 2), ("attempt ended", 2)}


def _ended(host: WorkerHost, job_id: str) -> bool:
    found = (line for line in lines(host) if line["event"] == "attempt ended" and line.get("job_id") == job_id)
    return any(line["outcome"] == "succeeded" for line in found)
