"""Workers that are stuck: what counts as hung, and since when."""

from dataclasses import replace
from typing import Any

import pytest

from scheduler.hangs import Stint, Vigil, WorkerLook, WorkerWatch, why_hung
from scheduler.policy import Policy
from scheduler.records import Progress
from scheduler.states import Stage

POLICY = Policy()  # 120 s at least, 20 times a predicted step
NOW = 10_000.0
LONG_AGO = 0.0
STINT = Stint(
    job_id="job_1",
    gpu_id="GPU-0",
    worker_id="worker_1",
    lane=0,
    predicted_seconds=50.0,  # 1 s a step: the minimum of 120 s holds
    expires_at=NOW + 8,
    release_requested_at=None,
    progress_at=NOW - 120,
    progress=Progress(Stage.DENOISING, 3, 50, 0.06),
)


def told(now: float = NOW, since: float = LONG_AGO, **changes: Any) -> str | None:
    return why_hung(replace(STINT, **changes), POLICY, now, since)


def test_an_attempt_hangs_after_the_limit_and_not_at_it() -> None:
    assert told() is None
    assert told(progress_at=NOW - 130) == "no progress for 130 s, limit 120 s, at denoising, step 3 of 50"


def test_slow_steps_that_were_predicted_do_not_hang() -> None:
    """A CPU at the published model's size: 60 s a step, and ten times as slow as predicted at that."""
    assert told(predicted_seconds=3000.0, progress_at=NOW - 600) is None
    assert told(predicted_seconds=3000.0, progress_at=NOW - 1201) is not None


@pytest.mark.parametrize("stage", [Stage.LOADING, Stage.ENCODING, Stage.DECODING, Stage.MUXING])
def test_stages_without_steps_have_the_same_limit(stage: Stage) -> None:
    progress = Progress(stage, 0, 50, 0.0)
    assert told(progress=progress) is None
    assert "step 0 of 50" in str(told(progress=progress, progress_at=NOW - 121))


def test_silence_is_no_hang() -> None:
    assert told(progress_at=NOW - 500, expires_at=NOW - 1) is None


def test_what_nobody_watched_does_not_count() -> None:
    assert told(progress_at=NOW - 5000, since=NOW - 120) is None
    assert told(progress_at=NOW - 5000, since=NOW - 121) is not None


def test_a_job_that_is_not_given_back_hangs_although_it_makes_progress() -> None:
    assert told(progress_at=NOW, release_requested_at=NOW - 120) is None
    why = told(progress_at=NOW, release_requested_at=NOW - 121)
    assert why == "the job was not given back within 121 s, limit 120 s"
    assert told(progress_at=NOW, release_requested_at=NOW - 500, since=NOW - 60) is None


def test_one_that_waits_for_another_of_its_lane_is_as_well_as_that_one() -> None:
    waiting = replace(STINT, job_id="job_2", progress=Progress(Stage.LOADING, 0, 50, 0.0), progress_at=NOW - 500)
    running = replace(STINT, progress_at=NOW - 1)
    stuck = replace(STINT, progress_at=NOW - 130)

    def verdict(*beside: Stint) -> str | None:
        return why_hung(waiting, POLICY, NOW, LONG_AGO, beside=(waiting, *beside))

    assert verdict() is not None
    assert verdict(running) is None
    assert verdict(stuck) == "no progress for 130 s, limit 120 s, at loading, step 0 of 50"
    assert verdict(replace(running, lane=1)) is not None, "that one does not keep it waiting"
    assert verdict(replace(running, worker_id="worker_2")) is not None


@pytest.mark.parametrize("stage", [Stage.ENCODING, Stage.DENOISING, Stage.DECODING])
def test_one_that_the_gpu_lets_wait_is_as_well_as_the_others_there(stage: Stage) -> None:
    """One thread serves them all: a run that is to go on in another precision waits until the others are done."""
    waiting = replace(STINT, job_id="job_2", lane=1, progress=Progress(stage, 3, 50, 0.1), progress_at=NOW - 500)
    running = replace(STINT, progress_at=NOW - 1)

    def verdict(*beside: Stint) -> str | None:
        return why_hung(waiting, POLICY, NOW, LONG_AGO, beside=(waiting, *beside))

    assert verdict(running) is None
    assert verdict(replace(running, progress_at=NOW - 130)) is not None
    assert verdict(replace(running, worker_id="worker_2")) is not None
    assert verdict(replace(running, progress=Progress(Stage.MUXING, 50, 50, 0.97))) is not None, (
        "that is another thread"
    )


def test_a_supervisor_looks_at_the_lane_too() -> None:
    waiting = replace(STINT, job_id="job_2", progress=Progress(Stage.LOADING, 0, 50, 0.0), progress_at=NOW - 500)
    watch = WorkerWatch(POLICY, pause_seconds=1000.0)
    for at in (NOW - 500, NOW):
        assert watch.verdict(WorkerLook(at, at, None, (replace(STINT, progress_at=at), waiting)), ready=True) is None
    assert watch.verdict(WorkerLook(NOW + 7, NOW + 7, None, (waiting,)), ready=True) is not None


def test_a_grace_comes_on_top() -> None:
    late = replace(STINT, progress_at=NOW - 125, release_requested_at=NOW - 125)
    assert why_hung(late, POLICY, NOW, LONG_AGO, grace_seconds=5.0) is None
    assert why_hung(late, POLICY, NOW, LONG_AGO, grace_seconds=4.0) is not None


def test_a_vigil_begins_anew_after_a_break() -> None:
    vigil = Vigil(pause_seconds=10.0)
    assert [vigil.since(now) for now in (100.0, 105.0, 115.0)] == [100.0] * 3
    assert [vigil.since(now) for now in (125.1, 130.0)] == [125.1] * 2


def watched(*looks: WorkerLook, ready: bool = True) -> list[str | None]:
    watch = WorkerWatch(POLICY, pause_seconds=10.5)
    return [verdict and verdict.code for verdict in (watch.verdict(look, ready=ready) for look in looks)]


def look(at: float, seen_at: float | None, condemned: str | None = None, *stints: Stint) -> WorkerLook:
    return WorkerLook(at, seen_at, condemned, stints)


def test_a_worker_that_is_heard_is_well() -> None:
    assert watched(*(look(NOW + at, NOW + at - 2) for at in range(0, 100, 5))) == [None] * 20


def test_a_worker_that_has_not_registered_yet_is_given_all_its_time() -> None:
    assert watched(*(look(NOW + at, None) for at in range(0, 1000, 5))) == [None] * 200


@pytest.mark.parametrize("dropped", [False, True], ids=["registered", "given up by the reaper"])
def test_a_process_that_lives_but_falls_silent_is_killed_after_three_leases(dropped: bool) -> None:
    later = None if dropped else NOW
    verdicts = watched(look(NOW, NOW), *(look(NOW + at, later) for at in (10, 20, 30, 30.5)))
    assert verdicts == [None, None, None, None, "worker_lost"]


def test_one_that_loads_may_be_silent_for_longer() -> None:
    looks = [look(NOW + at, NOW) for at in range(0, 125, 10)]
    assert watched(*looks, ready=False) == [None] * len(looks)
    assert watched(*looks, look(NOW + 121, NOW), ready=False)[-1] == "worker_lost"


def test_silence_while_nobody_looked_does_not_count() -> None:
    looks = [look(NOW, NOW), look(NOW + 500, NOW), look(NOW + 510, NOW), look(NOW + 520, NOW), look(NOW + 530, NOW)]
    assert watched(*looks) == [None] * 5
    assert watched(*looks, look(NOW + 531, NOW)) == [None] * 5 + ["worker_lost"]


def test_a_hung_attempt_condemns_its_worker_with_the_numbers() -> None:
    watch = WorkerWatch(replace(POLICY, hang_seconds=9.0, hang_factor=1.0), pause_seconds=10.5)
    assert watch.verdict(look(NOW, NOW), ready=True) is None
    assert (
        watch.verdict(look(NOW + 9, NOW + 9, None, replace(STINT, progress_at=NOW, expires_at=NOW + 20)), ready=True)
        is None
    )
    verdict = watch.verdict(
        look(NOW + 10, NOW + 10, None, replace(STINT, progress_at=NOW, expires_at=NOW + 20)), ready=True
    )
    assert verdict is not None
    assert (verdict.code, verdict.message) == (
        "worker_hung",
        "no progress for 10 s, limit 9 s, at denoising, step 3 of 50",
    )


def test_a_condemned_worker_is_killed_for_what_it_was_condemned_for() -> None:
    verdict = WorkerWatch(POLICY, 10.5).verdict(look(NOW, NOW, "the deadline of the drain has passed"), ready=True)
    assert verdict is not None
    assert (verdict.code, verdict.message) == ("worker_hung", "the deadline of the drain has passed")
