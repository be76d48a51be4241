"""Explaining as a pure function: the first thing that holds a job back is the one that is told, with its numbers."""

from dataclasses import replace
from typing import Any

import pytest

from scheduler.explain import QueueInfo, explain
from scheduler.footprint import Footprint
from scheduler.line import Standing
from scheduler.moment import Moment, Quota, quota_of
from scheduler.outlook import Pace, Span, Work
from scheduler.placement import Offer
from scheduler.policy import Policy
from scheduler.records import Gpu, GpuSample, Job, OpenLease, Progress, Reservation, Worker
from scheduler.states import GpuState, JobStatus, Stage, Window
from scheduler.store.lines import Pause
from scheduler.waits import Blocker
from scheduler.windows import read_windows
from tests.support.fleet import GIB, MODEL, PARAMS, gpu_info

NOW = 1000.0
FOOTPRINT = Footprint("fp16", 6 * GIB, 4 * GIB, seconds=80.0)
JOB = Job(
    id="job_1", tenant="default", gate="", model=MODEL.id, prompt="p", params=PARAMS, metadata={}, image_key="k",
    priority=1.0, footprint=FOOTPRINT, plan_reason="", weight=8.0, virtual_at=NOW, rank=1.0, memory_class=64,
    status=JobStatus.QUEUED, version=(1, 0), progress=None, attempts=0, max_attempts=3, not_before=0.0, ready_at=NOW,
    cancel_requested=False, deadline_at=None, retry_of=None, webhook_url=None, webhook_events=(),
    result_ttl_seconds=None, window=None, gpu_id=None, gpu_name=None, gpu_kind=None,
    resumed_from_step=None, checkpoint_step=None, notices=(), measured=None,
    error=None, result=None, created_at=NOW, started_at=None, finished_at=None,
)  # fmt: skip
SURE = Pace(1.0, 1.0, 1.0, shared=0.0)
PAUSE = Pause(NOW - 60, "moving racks", "alice")
FULL = GpuSample(20 * GIB, 4 * GIB - 1)


def offer(
    name: str = "GPU-0",
    *,
    workers: tuple[Worker, ...] | None = None,
    ready: bool = True,
    running: tuple[float, ...] = (),
    running_bytes: int = GIB,
    state: GpuState = GpuState.ACTIVE,
    online: bool = True,
    sample: GpuSample | None = None,
    kept: Reservation | None = None,
    capacity_bytes: int = 17 * GIB,
    plan: str = "fp16",
) -> Offer:
    """A GPU with a worker, or `workers`, and 17 GiB beside them.

    The first ones run jobs of 80 s that are at the fractions `running`.
    """
    workers = (Worker("w0", name, 1, MODEL.id, 6 * GIB, ready),) if workers is None else workers
    leases = tuple(
        OpenLease(
            job_id=f"{name}-{number}",
            fence=1,
            worker_id=f"w{number}",
            lane=0,
            reserved_bytes=running_bytes,
            started_at=NOW,
            predicted_seconds=80.0,
            expires_at=NOW,
            release_requested=False,
            progress_at=NOW,
            progress=Progress(Stage.DENOISING, 0, 50, fraction),
        )
        for number, fraction in enumerate(running)
    )
    gpu = Gpu(
        info=gpu_info(name, total_bytes=(18 + 6 * max(1, len(workers))) * GIB),
        state=state,
        reason=None if state is GpuState.ACTIVE else "why",
        actor=None,
        state_changed_at=0.0,
        sample=sample or GpuSample(0, 20 * GIB),
        seen_at=NOW,
        online=online,
        drain=None,
        reservation=kept,
        workers=workers,
        leases=leases,
    )
    return Offer(gpu, replace(FOOTPRINT, plan=plan), capacity_bytes, {None: GIB, plan: FOOTPRINT.model_bytes})


def two_workers(*, model: str = MODEL.id) -> tuple[Worker, ...]:
    return tuple(Worker(f"w{number}", "GPU-0", number, model, 6 * GIB, ready=True) for number in range(2))


def standing(*seconds: float) -> Standing:
    return Standing(len(seconds), True, Work(seconds, 0.0, max(seconds, default=0.0)))


def told(
    *offers: Offer, job: Job = JOB, ahead: tuple[float, ...] = (), quota: Quota | None = None, **moment: Any
) -> QueueInfo:
    values: dict[str, Any] = {"now": NOW, "pause": None, "pace": SURE}
    return explain(job, offers, standing(*ahead), Moment(**(values | moment)), Policy(), quota)


def test_each_reason_hides_the_next() -> None:
    """From "nothing there" to "next to start", each cleared in turn."""
    waiting = replace(JOB, not_before=NOW + 5)
    small = offer(capacity_bytes=4 * GIB - 1, state=GpuState.DRAINING, online=False)
    draining = offer(state=GpuState.DRAINING, online=False)
    offline = offer(online=False, running=(0.5,), sample=FULL)
    full = Quota(limit=2, running=2, free_after=9.0)

    reasons = [
        told(job=waiting, pause=PAUSE),
        told(small, job=waiting, pause=PAUSE),
        told(draining, job=waiting, pause=PAUSE, held="3 runs in a row failed"),
        told(draining, job=waiting, held="3 runs in a row failed"),
        told(draining, job=waiting),
        told(offline, job=waiting),
        told(offline, job=replace(waiting, attempts=1)),
        told(offline, quota=full),
        told(offer(sample=GpuSample(None, None, problem="lost"), running=(0.5,)), quota=full),
        told(offer(running=(0.5,), sample=FULL), quota=full),
        told(offer(running=(0.5,), sample=FULL)),
        told(offer(sample=FULL)),
        told(offer(workers=two_workers(), running=(0.5,), running_bytes=14 * GIB)),
        told(offer(sample=GpuSample(20 * GIB, 4 * GIB))),
    ]

    assert [info.wait.code for info in reasons] == [
        Blocker.NO_GPU,
        Blocker.TOO_LARGE,
        Blocker.QUEUE_PAUSED,
        Blocker.MODEL_HELD,
        Blocker.DRAINING,
        Blocker.NOT_BEFORE,
        Blocker.RETRY_BACKOFF,
        Blocker.NO_WORKER,
        Blocker.MEMORY_UNKNOWN,
        Blocker.TENANT_LIMIT,
        Blocker.BUSY,
        Blocker.FOREIGN_MEMORY,
        Blocker.NO_FREE_MEMORY,
        Blocker.DISPATCHING,
    ]
    assert all("\n" not in info.wait.message and info.wait.clears_when for info in reasons)


def test_one_usable_gpu_is_enough() -> None:
    info = told(offer("GPU-0", state=GpuState.DRAINED), offer("GPU-1", online=False), offer("GPU-2"))

    assert (info.wait.code, info.wait.details) == (Blocker.DISPATCHING, {"ahead": 0, "gpus": ["GPU-2"]})


def test_a_gpu_with_a_worker_to_spare_is_not_busy() -> None:
    assert told(offer(workers=two_workers(), running=(0.0,))).wait.code is Blocker.DISPATCHING


def test_memory_that_our_own_jobs_hold_is_told_apart_from_a_strangers() -> None:
    """17 GiB are left beside two workers; 14 of them are promised, or somebody else has taken them."""
    ours = told(offer(workers=two_workers(), running=(0.5,), running_bytes=14 * GIB, sample=GpuSample(0, 9 * GIB)))
    foreign = told(offer(workers=two_workers(), sample=GpuSample(21 * GIB, 3 * GIB)))

    assert ours.wait.code is Blocker.NO_FREE_MEMORY
    assert ours.wait.details == {
        "gpu": "GPU-0",
        "needed_bytes": 4 * GIB,
        "free_bytes": 3 * GIB,
        "promised_bytes": 14 * GIB,
        "running": 1,
    }
    assert ours.eta_seconds == 40.0, "then that job should have ended"
    assert foreign.wait.code is Blocker.FOREIGN_MEMORY
    assert foreign.wait.details == {
        "gpu": "GPU-0",
        "needed_bytes": 4 * GIB,
        "free_bytes": 3 * GIB,
        "foreign_bytes": 14 * GIB,
    }
    assert "14.00 GiB are held by something that is none of our jobs" in foreign.wait.message
    assert (foreign.eta_seconds, foreign.start, foreign.finish) == (None, None, None), "nobody can tell"


def test_a_gpu_that_is_kept_for_an_older_job() -> None:
    """16 of 17 GiB are free. The older job gets 16.5 in 40 s, if this one, of 80 s, does not start."""
    kept = Reservation("job_0", 33 * GIB // 2, start_at=NOW + 40, made_at=NOW)
    gpu = offer(workers=two_workers(), running=(0.5,), kept=kept)

    info = told(gpu)

    assert info.wait.code is Blocker.RESERVED
    assert info.wait.details == {
        "gpu": "GPU-0",
        "job_id": "job_0",
        "start_at": NOW + 40,
        "reserved_bytes": 33 * GIB // 2,
        "needed_bytes": 4 * GIB,
        "free_bytes": 16 * GIB,
    }
    assert info.eta_seconds is not None
    assert info.eta_seconds >= 40
    quick = replace(JOB, footprint=replace(FOOTPRINT, seconds=20.0))
    assert told(gpu, job=quick).wait.code is Blocker.DISPATCHING, "it will have ended by then"
    beside = replace(JOB, memory_class=8)
    assert told(gpu, job=beside).wait.code is Blocker.DISPATCHING, "it fits beside"


def test_a_job_that_a_gpu_is_kept_for() -> None:
    kept = Reservation(JOB.id, 4 * GIB, start_at=NOW + 30, made_at=NOW)
    full = offer(workers=two_workers(), running=(0.5,), running_bytes=14 * GIB, kept=kept)

    info = told(full, ahead=(80.0, 80.0))

    assert info.wait.code is Blocker.RESERVATION
    assert info.wait.details == {"gpu": "GPU-0", "needed_bytes": 4 * GIB, "start_at": NOW + 30}
    assert info.wait.message == "GPU GPU-0 is reserved for it, with 4.00 GiB from about 30 s from now"
    assert (info.start, info.finish) == (Span(NOW + 30, NOW + 30), Span(NOW + 110, NOW + 110))
    late = told(full, ahead=(80.0, 80.0), now=NOW + 35)
    assert (late.wait.code, late.eta_seconds) == (Blocker.RESERVATION, 0.0)
    free = told(offer(kept=kept), ahead=(80.0, 80.0))
    assert (free.wait.message, free.eta_seconds) == ("next to start", 0.0), "whoever is ranked above it"


def test_a_worker_may_load_the_model_in_place_of_its_own() -> None:
    """Beside another model of 3 GiB there would be 20 GiB; this one is 3 GiB larger."""
    other = (Worker("w0", "GPU-0", 1, "other", 3 * GIB, True, (MODEL.id,)),)

    assert told(offer(workers=other)).wait.code is Blocker.DISPATCHING
    assert told(offer(workers=other, sample=GpuSample(0, 7 * GIB))).wait.code is Blocker.DISPATCHING
    assert told(offer(workers=other, sample=GpuSample(0, 7 * GIB - 1))).wait.code is Blocker.FOREIGN_MEMORY


def test_the_start_is_when_the_work_ahead_leaves_a_worker_free() -> None:
    two = (offer("GPU-0", running=(0.5,)), offer("GPU-1", running=(0.75,)), offer("GPU-2", state=GpuState.DRAINING))

    info = told(*two, ahead=(80.0, 100.0, 60.0))

    assert (info.position, info.position_exact) == (4, True)
    assert info.wait.message == "all GPUs that fit are busy with 2 running, 3 queued ahead"
    assert info.eta_seconds == 140.0, "GPU-1 runs 20, 80 and then 60 s; GPU-0 40 and 100 s"
    assert info.start == Span(NOW + 140, NOW + 140)
    assert info.finish == Span(NOW + 220, NOW + 220)


def test_a_place_that_is_estimated_says_so() -> None:
    far = Standing(51_999, False, Work(rest_seconds=160.0, longest_seconds=80.0))

    info = explain(JOB, [offer()], far, Moment(NOW, None, SURE), Policy())

    assert (info.position, info.position_exact) == (52_000, False)
    assert (info.wait.message, info.eta_seconds) == ("starts after about 51999 queued ahead", 160.0)


def test_the_pace_of_attempts_counts_for_those_that_run_and_those_that_wait() -> None:
    info = told(offer(running=(0.5,)), ahead=(80.0,), pace=Pace(2.0, 2.0, 3.0, shared=1.0))

    assert info.start == Span(NOW + 240, NOW + 360)
    assert info.finish == Span(NOW + 400, NOW + 600)


def test_time_passes_between_two_reports_of_progress() -> None:
    assert told(offer(running=(0.5,)), now=NOW + 30).eta_seconds == 10.0
    assert told(offer(running=(0.5,)), now=NOW + 300).eta_seconds == 0.0


def test_a_window_is_told_in_its_zone() -> None:
    night = read_windows("* 22-23,0-5 * * *", "Europe/Berlin")
    assert night is not None
    noon = NOW - NOW % 86_400 + 43_200
    waiting = replace(JOB, window=Window.OFF_PEAK, not_before=night.next_open(noon))
    policy, moment = Policy(off_peak=night), Moment(noon, None, SURE)

    wait = explain(waiting, [offer()], standing(), moment, policy).wait
    wish = explain(replace(waiting, not_before=waiting.not_before + 60), [offer()], standing(), moment, policy).wait

    assert (wait.code, wait.clears_when) == (Blocker.WINDOW, "the window opens")
    assert wait.message == "waits for the off-peak window, which opens at 1970-01-01 22:00 (Europe/Berlin)"
    assert wait.details == {"window": "off_peak", "until_at": waiting.not_before, "time_zone": "Europe/Berlin"}
    assert wish.code is Blocker.NOT_BEFORE


def test_those_that_come_with_a_job_go_first() -> None:
    waiting = replace(JOB, not_before=NOW + 30)
    joining = Work((10.0, 20.0), 40.0, 20.0)
    moment = Moment(NOW, None, SURE)

    def start(work: Work, *offers: Offer) -> float | None:
        return explain(waiting, offers, Standing(3, True, work, joining), moment, Policy()).eta_seconds

    assert start(Work(), offer()) == 30.0 + 70.0
    assert start(Work((80.0,), 0.0, 80.0), offer()) == 80.0 + 70.0
    assert start(Work(), offer(workers=two_workers())) == 30.0 + 35.0


def test_a_wait_that_is_set_is_the_least() -> None:
    waiting = replace(JOB, not_before=NOW + 30)

    assert told(offer(), job=waiting).start == Span(NOW + 30, NOW + 30)
    assert told(offer(), job=waiting, ahead=(80.0,)).eta_seconds == 80.0
    assert told(offer(online=False), job=waiting).eta_seconds is None


@pytest.mark.parametrize(
    ("gpu", "moment"),
    [
        (offer(), {"pause": PAUSE}),
        (offer(state=GpuState.DRAINING), {}),
        (offer(), {"held": "3 runs in a row failed"}),
        (offer(online=False), {}),
        (offer(ready=False), {}),
        (offer(sample=GpuSample(None, None, problem="lost")), {}),
    ],
)
def test_when_nobody_can_tell_nothing_is_told(gpu: Offer, moment: dict[str, Any]) -> None:
    info = told(gpu, **moment)

    assert (info.position, info.eta_seconds, info.start, info.finish) == (1, None, None, None)


def test_a_job_whose_plan_fits_no_longer_says_with_which_it_goes_on() -> None:
    small = offer(capacity_bytes=4 * GIB - 1)

    too_large = told(small, offer(plan="fp16-offload"))
    not_run = told(offer(plan="fp32"))

    assert (too_large.wait.code, too_large.wait.details["next_plan"]) == (Blocker.TOO_LARGE, "fp16-offload")
    assert too_large.wait.message.endswith("; it will go on with plan fp16-offload, which fits")
    assert (not_run.wait.code, not_run.wait.details["next_plan"]) == (Blocker.NO_GPU, "fp32")
    assert "next_plan" not in told(small, offer(plan="fp32", capacity_bytes=GIB)).wait.details


def test_jobs_of_one_lane_hold_memory_once_and_run_one_after_another() -> None:
    gpu = offer(running=(0.5,), running_bytes=14 * GIB).gpu
    next_up = replace(gpu.leases[0], job_id="next", progress=replace(gpu.leases[0].progress, fraction=0.0))
    lane = replace(offer(), gpu=replace(gpu, leases=(*gpu.leases, next_up)))
    lanes = replace(offer(), gpu=replace(gpu, leases=(*gpu.leases, replace(next_up, lane=1, reserved_bytes=GIB))))

    assert (told(lane).wait.code, told(lane).eta_seconds) == (Blocker.BUSY, 120.0)
    assert (told(lanes).wait.code, told(lanes).eta_seconds) == (Blocker.BUSY, 40.0)


@pytest.mark.parametrize(
    ("quota", "message", "clears_when"),
    [
        (Quota(1, 1, 9.0), "its tenant runs 1 job at once, as many as it may", "one of its tenant's jobs ends"),
        (Quota(2, 2, 9.0), "its tenant runs 2 jobs at once, as many as it may", "one of its tenant's jobs ends"),
        (Quota(1, 3, 9.0), "its tenant runs 3 jobs at once, and may run 1", "enough of its tenant's jobs have ended"),
        (Quota(0, 0, None), "its tenant may run no jobs", "its tenant's limit is raised"),
    ],
)
def test_a_tenant_at_its_limit_is_told_with_its_numbers(quota: Quota, message: str, clears_when: str) -> None:
    wait = told(offer(), quota=quota).wait

    assert (wait.code, wait.message, wait.clears_when) == (Blocker.TENANT_LIMIT, message, clears_when)
    assert wait.details == {"running": quota.running, "limit": quota.limit}


def test_a_job_starts_when_its_turn_has_come_and_its_tenant_has_a_place() -> None:
    def starts(quota: Quota | None) -> float | None:
        return told(offer(running=(0.5,)), quota=quota).eta_seconds

    assert starts(None) == starts(Quota(2, 1, 0.0)) == starts(Quota(1, 1, 20.0)) == 40.0
    assert starts(Quota(1, 1, 60.0)) == 60.0
    assert starts(Quota(0, 0, None)) is None
    assert told(offer(), quota=Quota(1, 1, 20.0)).start == Span(NOW + 20, NOW + 20)


@pytest.mark.parametrize(
    ("limit", "free_after"),
    [(4, 0.0), (3, 8.0), (2, 40.0), (1, 72.0), (0, None)],
)
def test_a_place_is_free_when_enough_of_the_tenants_jobs_have_ended(limit: int, free_after: float | None) -> None:
    """Three of them run, with 8, 40 and 72 s left; another tenant's ends sooner."""
    gpus = [offer("GPU-0", running=(0.5, 0.9)).gpu, offer("GPU-1", running=(0.1, 0.95)).gpu]
    running = {"GPU-0-0", "GPU-0-1", "GPU-1-0"}

    quota = quota_of(limit, running, gpus, Moment(NOW, None, SURE))

    assert (quota.limit, quota.running) == (limit, 3)
    assert quota.free_after == pytest.approx(free_after)


def test_nobody_can_tell_when_a_place_is_free_that_is_held_by_a_job_on_no_gpu() -> None:
    assert quota_of(1, {"gone"}, [offer(running=(0.5,)).gpu], Moment(NOW, None, SURE)).free_after is None


def test_of_many_gpus_the_first_few_are_told_and_the_details_have_all() -> None:
    found = told(*(offer(f"GPU-{number}", online=False) for number in range(64)))
    assert found.wait.code is Blocker.NO_WORKER
    assert found.wait.message.endswith("GPU GPU-0 is offline; GPU GPU-1 is offline; GPU GPU-2 is offline; and 61 more")
    assert len(found.wait.details["gpus"]) == 64
