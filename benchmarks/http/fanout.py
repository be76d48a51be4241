"""Many clients that wait: for one job that changes now and then, and each for a job of its own that ends.

Measured is the time from the call that makes the change, its commit included, until a client has its answer or event;
what the waiting clients cost in memory; and whether another client's polls suffer while they wait.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any

from benchmarks.http import closed, wire
from benchmarks.http.contestants import ReelqServer
from benchmarks.http.processes import Process, generating, result_of, tell
from benchmarks.queue.reelq import TOTAL_BYTES, gpu_id, new_job, register_worker
from benchmarks.queue.timing import percentile
from scheduler.records import Lease, Progress
from scheduler.states import Stage

POLL_CONNECTIONS = 8
_WAIT_SECONDS = 30
_BETWEEN_SECONDS = 2.0  # changes of the one job
_QUIET_SECONDS = 0.5  # nothing has arrived for so long: all that comes has come


def one_job(server: ReelqServer, *, clients: int, stream: bool, changes: int, seconds: float) -> dict[str, float]:
    """Let `clients` wait for one running job, which reports `changes` times; polls are measured before, with, after."""
    lease = _running_job(server)
    polled = server.submit()
    server.requests["other"], server.status["other"] = [wire.request("GET", f"/v1/jobs/{polled}")], 200

    def polls() -> float:
        rate = closed.measure(server, "other", connections=POLL_CONNECTIONS, seconds=seconds)["per_second"]
        server.meter.settle()
        return rate

    polls()  # unmeasured: what is made at the first use is there
    before_bytes, before = server.meter.resident_bytes(), polls()
    with _waiting(server, [lease.job_id] * clients, stream=stream, again=not stream) as client:
        with_bytes, meanwhile = server.meter.resident_bytes(), mean((polls(), polls()))
        changed_at = []
        for change in range(changes):
            changed_at.append(time.monotonic())
            _report(server, lease, change + 1)
            time.sleep(_BETWEEN_SECONDS)
        result = _ended(client, server)
    server.meter.settle()
    after = polls()
    server.scheduler.leases.release(lease)
    server.scheduler.queue.cancel(lease.job_id)
    delays = [list(_delays(changed_at, arrivals)) for arrivals in result["arrivals"]]
    rounds = list(zip(*delays, strict=True))
    return {
        **_spread(rounds),
        "lost": sum(delay is None for each in rounds for delay in each),
        "memory_mb": round((with_bytes - before_bytes) / 1e6, 1),
        "polls_without": round(mean((before, after)), 1),
        "polls_with": round(meanwhile, 1),
        "polls_ratio": round(meanwhile / mean((before, after)), 3),
        "client_cpu_seconds": round(result["cpu_seconds"], 2),
    }


def many_jobs(server: ReelqServer, *, clients: int, stream: bool) -> dict[str, float]:
    """Let each of `clients` wait for a queued job of its own; then all are cancelled, one after the other."""
    jobs = [server.scheduler.queue.submit(new_job()).job.id for _ in range(clients)]
    server.meter.settle()
    before_bytes = server.meter.resident_bytes()
    with _waiting(server, jobs, stream=stream, again=False) as client:
        with_bytes = server.meter.resident_bytes()
        changed_at = []
        for job in jobs:
            changed_at.append(time.monotonic())
            server.scheduler.queue.cancel(job)
        took = time.monotonic() - changed_at[0]
        time.sleep(_BETWEEN_SECONDS)
        result = _ended(client, server)
    delays = [next(_delays([at], arrivals)) for at, arrivals in zip(changed_at, result["arrivals"], strict=True)]
    return {
        **_spread([delays]),
        "lost": delays.count(None),
        "memory_mb": round((with_bytes - before_bytes) / 1e6, 1),
        "changes_per_second": round(clients / took, 1),
        "client_cpu_seconds": round(result["cpu_seconds"], 2),
    }


def _running_job(server: ReelqServer) -> Lease:
    job = server.scheduler.queue.submit(new_job()).job.id
    worker_id = register_worker(server.scheduler, gpu_id(0))
    lease = server.scheduler.queue.claim(worker_id, gpu_id(0), TOTAL_BYTES)
    if lease is None or lease.job_id != job:
        raise RuntimeError("another job was in the queue")
    return lease


def _report(server: ReelqServer, lease: Lease, step: int) -> None:
    steps = lease.params.num_inference_steps
    server.scheduler.leases.report(lease, Progress(Stage.DENOISING, step, steps, step / steps))


@contextmanager
def _waiting(server: ReelqServer, jobs: Sequence[str], *, stream: bool, again: bool) -> Iterator[Process]:
    path = "/v1/jobs/{}/events" if stream else f"/v1/jobs/{{}}?wait={_WAIT_SECONDS}"
    requests = closed.encoded([wire.request("GET", path.format(job)) for job in jobs])
    spec = {"port": server.port, "requests": requests, "stream": stream, "again": again}
    with generating("waits", spec, server.log) as client:
        assert client.stdout is not None
        if client.stdout.readline() != "ready\n":
            raise RuntimeError(f"the clients do not wait:\n{server.log.read_text()[-2000:]}")
        server.meter.settle()
        yield client


def _ended(client: Process, server: ReelqServer) -> dict[str, Any]:
    tell(client, "end")
    result = result_of(client, server.log)
    if result["problems"]:
        raise RuntimeError(f"clients were refused: {result['problems'][0]}")
    return result


def _delays(changed_at: Sequence[float], arrivals: Sequence[float]) -> Iterator[float | None]:
    """Yield, for each change, how long after it the next arrival came; None where none came before the next change."""
    for at, until in zip(changed_at, [*changed_at[1:], float("inf")], strict=True):
        yield next((arrival - at for arrival in arrivals if at < arrival < until), None)


def _spread(rounds: Sequence[Sequence[float | None]]) -> dict[str, float]:
    """The median and the last over all clients, each the mean over the changes, in milliseconds."""
    came = [[delay for delay in each if delay is not None] for each in rounds]
    return {
        "median_ms": round(mean(percentile(each, 50) for each in came) * 1000, 1),
        "last_ms": round(mean(max(each) for each in came) * 1000, 1),
    }
