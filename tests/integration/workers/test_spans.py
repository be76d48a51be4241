"""Attempts as spans: those that fail too, and one after another."""

from typing import TYPE_CHECKING

import pytest

from scheduler.store import schema as s
from scheduler.tracing import Span, Tracer

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Recorder(Tracer):
    on = True

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def record(self, traceparent: str | None, *spans: Span) -> None:
        assert traceparent == PARENT
        self.spans.extend(spans)


@pytest.fixture
def recorder(bench: "Bench") -> Recorder:
    bench.tracer = recorder = Recorder()
    return recorder


def submit(bench: "Bench") -> str:
    job_id = bench.submit()
    with bench.scheduler.database.write() as conn:
        conn.execute(s.jobs.update().values(traceparent=PARENT))
    return job_id


def test_an_attempt_that_fails_and_the_next_one_each_have_their_wait(bench: "Bench", recorder: Recorder) -> None:
    job_id = submit(bench)

    def broken(index: int) -> None:
        if index == 1:
            raise RuntimeError("the password is swordfish")

    bench.model.before_step = broken
    assert bench.run(bench.claim()) == "internal_error"
    bench.model.before_step = lambda _index: None
    assert bench.run(bench.claim()) == "succeeded"

    first_wait, failed, second_wait, succeeded = recorder.spans
    assert [span.name for span in recorder.spans] == ["queue", "attempt"] * 2
    created_at = bench.job(job_id).created_at
    attempts = bench.scheduler.queue.attempts(job_id)
    assert (first_wait.start, first_wait.end) == (created_at, attempts[0].started_at)
    assert (second_wait.start, second_wait.end) == (attempts[0].ended_at, attempts[1].started_at)

    assert failed.error == "internal_error: the worker failed with RuntimeError"
    assert [stage.name for stage in failed.children] == ["prepare", "wait", "encode", "denoise", "end"]
    assert [stage.name for stage in succeeded.children][-3:] == ["decode", "mux", "publish"]
    assert (failed.attributes["reelq.attempt"], succeeded.attributes["reelq.attempt"]) == (1, 2)
    assert (failed.attributes["reelq.lease"], succeeded.attributes["reelq.lease"]) == (1, 2)
    assert succeeded.error is None
    for span, record in ((failed, attempts[0]), (succeeded, attempts[1])):
        assert record.measured is not None
        assert span.attributes["reelq.predicted_vram_bytes"] == record.predicted_vram_bytes
        assert span.attributes["reelq.steps"] == record.measured.steps
        edges = [edge for stage in span.children for edge in (stage.start, stage.end)]
        assert edges == sorted(edges)
        assert span.start <= edges[0] <= edges[-1] <= span.end


def test_loading_another_plan_is_a_stage_of_its_own(bench: "Bench", recorder: Recorder) -> None:
    bench.offer_plans("fp32-chunked")
    submit(bench)
    assert bench.run(bench.claim()) == "succeeded"
    _, attempt = recorder.spans
    assert [stage.name for stage in attempt.children][:4] == ["prepare", "wait", "load", "encode"]
    assert attempt.attributes["reelq.plan"] == "fp32-chunked"


def test_a_job_that_is_not_traced_has_none(bench: "Bench", recorder: Recorder) -> None:
    bench.submit()
    assert bench.run(bench.claim()) == "succeeded"
    assert recorder.spans == []
