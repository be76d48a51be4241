"""From the call that submits to the job's start, on an idle service whose worker waits."""

import socket
import time
from collections.abc import Callable

from benchmarks.http.contestants import Server
from benchmarks.http.load import Answers
from benchmarks.queue.timing import spread

_IDLE_SECONDS = 0.03  # between jobs, so that the worker has ended the last one and waits again
_WARM_UP = 20


def measure(server: Server, kind: str, ran_at: Callable[[], float], jobs: int) -> dict[str, float]:
    """Submit jobs one by one; returns the spread from the first byte sent to the start, and to the answer."""
    started, answered = [], []
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_WARM_UP + jobs):
            called = time.monotonic()
            connection.sendall(server.requests[kind][0])
            answers = Answers()
            status = None
            while status is None:
                status = answers.feed(connection.recv(65536))
            answered.append(time.monotonic() - called)
            if status != str(server.status[kind]).encode():
                raise RuntimeError(f"a submission was answered {status.decode()}")
            started.append(ran_at() - called)
            time.sleep(_IDLE_SECONDS)
    to_answer = spread(answered[_WARM_UP:])
    return {**spread(started[_WARM_UP:]), "answer_p50_ms": to_answer["p50_ms"], "answer_p99_ms": to_answer["p99_ms"]}
