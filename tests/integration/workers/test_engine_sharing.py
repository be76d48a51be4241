"""Jobs that share forward passes: they join and leave between steps, and none notices the others."""

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from scheduler.params import VideoParams
from scheduler.states import JobStatus
from tests.support.worker_host import TINY
from workers import batching

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench

_SIX = replace(TINY, num_inference_steps=6)


@pytest.fixture
def sharing(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> "Bench":
    """A bench on which sharing seems to gain, whatever this machine is busy with."""
    monkeypatch.setattr(batching, "_ENOUGH", 1)
    monkeypatch.setattr(batching, "GAIN", 0.0)
    bench.batch_jobs = 4
    return bench


def frames(bench: "Bench", job_id: str) -> np.ndarray[Any, Any]:
    result = bench.job(job_id).result
    assert result is not None
    with av.open(str(bench.data_dir / "blobs" / result.video_key)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The mean difference of two videos' pixels, of 255."""
    return float(np.abs(one - other).mean())


def alone(bench: "Bench", *params: VideoParams) -> list[np.ndarray[Any, Any]]:
    """The frames of such jobs, each run by itself."""
    most, bench.batch_jobs = bench.batch_jobs, 1
    made = []
    for each in params:
        job_id = bench.submit(each)
        assert bench.run() == "succeeded"
        made.append(frames(bench, job_id))
    bench.batch_jobs = most
    return made


def test_jobs_of_one_shape_join_a_running_pass_and_leave_it_when_they_are_done(sharing: "Bench") -> None:
    wanted = [
        _SIX,
        replace(_SIX, seed=2, num_inference_steps=4, guidance_scale=4.0),
        replace(_SIX, seed=3, num_inference_steps=9),
    ]
    by_themselves = alone(sharing, *wanted)
    ids = [sharing.submit(each) for each in wanted]
    sharing.run()
    assert max(map(len, sharing.model.passes)) == 3
    assert {len(each) for each in sharing.model.passes} >= {1, 2, 3}
    for job_id, expected in zip(ids, by_themselves, strict=True):
        assert sharing.job(job_id).status is JobStatus.SUCCEEDED
        assert apart(frames(sharing, job_id), expected) < 3, "the same frames, up to rounding and its trace in H.264"
    assert min(apart(one, other) for one, other in combinations(by_themselves, 2)) > 12
    attempts = [sharing.scheduler.queue.attempts(job_id)[0] for job_id in ids]
    assert max(each.measured.sharing for each in attempts if each.measured) == 3


def test_a_job_of_another_shape_waits_for_its_own_pass_and_is_not_overtaken(sharing: "Bench") -> None:
    first = sharing.submit(replace(_SIX, num_inference_steps=12))  # the heavier comes first
    other = sharing.submit(replace(_SIX, num_frames=3))
    last = sharing.submit(replace(_SIX, num_inference_steps=2))
    sharing.run()
    assert all(len(each) == 1 for each in sharing.model.passes)
    started = [sharing.job(job_id).started_at for job_id in (first, other, last)]
    assert started == sorted(started, key=lambda at: at or 0.0)


def test_a_cancel_takes_one_out_of_a_shared_pass_and_leaves_the_others_be(sharing: "Bench") -> None:
    (expected,) = alone(sharing, replace(_SIX, num_inference_steps=12))
    staying = sharing.submit(replace(_SIX, num_inference_steps=12))
    leaving = sharing.submit(replace(_SIX, num_inference_steps=12, seed=9))

    def cancel(_index: int) -> None:
        if sharing.model.passes and len(sharing.model.passes[-1]) == 2 and not sharing.job(leaving).cancel_requested:
            sharing.scheduler.queue.cancel(leaving)
            from workers.control import Cause

            sharing.heard(Cause.CANCEL)

    sharing.model.before_step = cancel
    sharing.run()
    assert sharing.job(leaving).status is JobStatus.CANCELLED
    assert sharing.job(staying).status is JobStatus.SUCCEEDED
    assert apart(frames(sharing, staying), expected) < 3


def test_a_shared_pass_that_runs_out_of_memory_loses_its_newest_job_to_the_queue_and_nothing_else(
    sharing: "Bench",
) -> None:
    from torch import OutOfMemoryError

    step = sharing.model._model.step

    class Cramped:
        """A model with room for one."""

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def step(self, runs: Any) -> Any:
            if len(runs) > 1:
                raise OutOfMemoryError("CUDA out of memory")
            return step(runs)

    real = sharing.model._model
    sharing.model._model = Cramped()  # type: ignore[assignment]
    ids = [sharing.submit(replace(_SIX, seed=seed)) for seed in (1, 2)]
    sharing.run()
    assert [sharing.job(job_id).status for job_id in ids] == [JobStatus.SUCCEEDED] * 2
    outcomes = sorted(sharing.outcomes(job_id) for job_id in ids)
    assert outcomes == [["released", "succeeded"], ["succeeded"]]
    assert sharing.engine is not None
    assert not sharing.engine.sharing.may_join((("64x64x2"), "fp32", frozenset()), 1)


def test_a_job_that_finds_no_memory_beside_another_is_not_blamed(sharing: "Bench") -> None:
    """Alone it may well fit: it keeps its plan, and nothing is learned of what it needs."""
    from torch import OutOfMemoryError

    def fail(*_arguments: Any) -> None:
        if sharing.engine is not None and sharing.engine._batch:
            raise OutOfMemoryError("CUDA out of memory")

    sharing.model.embeddings._limit_bytes = 0  # nothing that was encoded before is used again
    handle = sharing.model.execution.components.text_encoder.register_forward_pre_hook(fail)
    try:
        ids = [sharing.submit(replace(_SIX, seed=seed)) for seed in (1, 2)]
        sharing.run()
    finally:
        handle.remove()
    assert sorted(sharing.outcomes(job_id) for job_id in ids) == [["released", "succeeded"], ["succeeded"]]
    assert {sharing.job(job_id).footprint.plan for job_id in ids} == {"fp32"}
    assert all(len(each) == 1 for each in sharing.model.passes)


def test_the_time_of_a_pass_counts_from_its_launch(bench: "Bench") -> None:
    """On a CPU a step is done when it returns: nothing of it may be lost."""
    now = [0.0]

    def tick(_index: int) -> None:
        now[0] += 2.0

    bench.clock = lambda: now[0]
    bench.model.before_step = tick
    job_id = bench.submit(_SIX)
    bench.run(bench.claim())
    (attempt,) = bench.scheduler.queue.attempts(job_id)
    assert attempt.measured is not None
    assert attempt.measured.step_seconds == pytest.approx(2.0)


def test_a_job_alone_is_stepped_alone_where_sharing_is_off(bench: "Bench") -> None:
    for seed in (1, 2):
        bench.submit(replace(_SIX, seed=seed))
    bench.run()
    assert [len(each) for each in bench.model.passes] == [1] * 12


def test_the_next_job_is_claimed_before_the_last_one_ends(bench: "Bench") -> None:
    bench.lookahead_seconds = 60.0
    first, second = (bench.submit(replace(_SIX, seed=seed)) for seed in (1, 2))
    states: list[JobStatus] = []

    def look(_index: int) -> None:
        states.append(bench.job(second).status)

    bench.model.before_step = look
    bench.run()
    assert [bench.job(job_id).status for job_id in (first, second)] == [JobStatus.SUCCEEDED] * 2
    assert states[0] is JobStatus.QUEUED, "not before the time of a step is known"
    assert states[5] is JobStatus.RUNNING
    (attempt,) = bench.scheduler.queue.attempts(second)
    assert attempt.measured is not None
    assert attempt.measured.stage_seconds["waiting"] > 0
