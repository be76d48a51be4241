"""Examples for the documentation: what is sent in each encoding, and what comes back."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from app import schemas as api
from scheduler.advice import Diagnosis, Sureness, Verdict
from scheduler.alerts import Kind, Rule, Severity
from scheduler.calls import CallStatus
from scheduler.deliveries import DeliveryStatus
from scheduler.drains import Ending
from scheduler.keys import Scope
from scheduler.prices import Terms
from scheduler.remedies import RemedyName
from scheduler.states import CapacityAction, DrainMode, GpuState, JobStatus, OnDeadline, Stage
from scheduler.waits import Blocker

Examples = Mapping[str, Any]

JOB_ID = "job_01k9zq4x8v7m2c5t3n6b1d0fgh"
_OTHER_JOB_ID = "job_01k9zq7c4e9w0r8y6k2j5m3bnp"
_ENDPOINT_ID = "we_01k9zq52t6d8h3s1a7v4x0crqe"
_DELIVERY_ID = "msg_01k9zqaf9n5b7g2k4p6w8yhzjt"
_WORKER_ID = "worker_01k9zp0m2v4x6z8b1d3f5h7jkn"
_GPU_ID = "GPU-6f1c2a9e-8b47-4d35-9a10-2f7c5e8d4b36"
_MODEL = "ali-vilab/i2vgen-xl"
_KIND = "NVIDIA GeForce RTX 3090"
_WEBHOOK_URL = "https://example.com/hooks/videos"
_BASE = f"http://127.0.0.1:8000/v1/jobs/{JOB_ID}"
_PROMPT = "a red fox walks through fresh snow"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_SUBMITTED, _STARTED, _FINISHED = (
    "2030-01-31T18:00:00.000000Z",
    "2030-01-31T18:00:02.500000Z",
    "2030-01-31T18:01:07.250000Z",
)
_GIB = 2**30
_PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGklEQVR42mM8EaXBQApgYiARjGoY1T"
    "B0NAAAJPgBampjHyYAAAAASUVORK5CYII="
)
_ESTIMATE = api.Estimate(
    vram_bytes=9 * _GIB,
    seconds=64.0,
    weight=7.1,
    plan="fp16",
    plan_reason="fp16 is the fastest plan, and fits 2 of 2 GPUs",
)
_PARAMS = api.JobParams(
    width=512,
    height=512,
    num_frames=16,
    num_inference_steps=50,
    guidance_scale=9.0,
    target_fps=16,
    seed=7,
    negative_prompt=None,
    preset="standard",
    allow_int8=False,
)
_VIDEO = api.Video(
    url=f"{_BASE}/video",
    thumbnail_url=f"{_BASE}/thumbnail",
    preview_url=f"{_BASE}/preview",
    bytes=918_273,
    sha256=_SHA256,
    num_frames=16,
    fps=16,
    duration_seconds=1.0,
    expires_at="2030-03-02T18:01:07.250000Z",
    expired=False,
)
_QUEUE_STATE = api.QueueState(
    position=3,
    position_exact=True,
    eta_seconds=41.0,
    wait_reason="2 jobs are ahead of it",
    wait=api.Wait(code=Blocker.DISPATCHING, details={"ahead": 2}, clears_when="the jobs ahead of it have started"),
    expected_start=api.Expected(p50="2030-01-31T18:00:41Z", p90="2030-01-31T18:00:58Z"),
    expected_finish=api.Expected(p50="2030-01-31T18:01:45Z", p90="2030-01-31T18:02:10Z"),
)
_QUEUED = api.Job(
    id=JOB_ID,
    tenant="default",
    status=JobStatus.QUEUED,
    stage=None,
    progress=api.Progress(fraction=0.0, step=0, steps=50),
    model=_MODEL,
    prompt=_PROMPT,
    params=_PARAMS,
    priority=1.0,
    metadata={"shot": "12"},
    estimate=_ESTIMATE,
    queue=_QUEUE_STATE,
    attempts=0,
    max_attempts=3,
    cancel_requested=False,
    deadline=None,
    retry_of=None,
    webhook_url=_WEBHOOK_URL,
    webhook_events=["job.succeeded", "job.failed", "job.cancelled"],
    result_ttl_seconds=None,
    gpu=None,
    resumed_from_step=None,
    checkpoint_step=None,
    notices=[],
    measured=None,
    error=None,
    video=None,
    not_before=None,
    window=None,
    created_at=_SUBMITTED,
    started_at=None,
    finished_at=None,
)
_RUNNING = _QUEUED.model_copy(
    update={
        "status": JobStatus.RUNNING,
        "stage": Stage.DENOISING,
        "progress": api.Progress(fraction=0.42, step=22, steps=50),
        "queue": None,
        "attempts": 1,
        "gpu": _GPU_ID,
        "checkpoint_step": 20,
        "started_at": _STARTED,
    }
)
_SUCCEEDED = _RUNNING.model_copy(
    update={
        "status": JobStatus.SUCCEEDED,
        "stage": None,
        "progress": api.Progress(fraction=1.0, step=50, steps=50),
        "checkpoint_step": None,
        "measured": api.MeasuredUse(
            vram_peak_bytes=9_450_000_000,
            working_peak_bytes=3_900_000_000,
            run_seconds=62.1,
            queue_seconds=2.5,
            stage_seconds={"encoding": 0.8, "denoising": 55.0, "decoding": 6.3},
            steps=50,
            step_seconds=1.1,
            sharing=1,
            energy_joules=18_600.0,
            cost=None,
        ),
        "video": _VIDEO,
        "finished_at": _FINISHED,
    }
)
_FAILED = _RUNNING.model_copy(
    update={
        "status": JobStatus.FAILED,
        "stage": None,
        "attempts": 3,
        "error": api.Failure(code="worker_lost", message="the worker died or fell silent"),
        "finished_at": _FINISHED,
    }
)
_CANCELLED = _QUEUED.model_copy(update={"status": JobStatus.CANCELLED, "queue": None, "finished_at": _FINISHED})
_RETRIED = _QUEUED.model_copy(update={"id": _OTHER_JOB_ID, "retry_of": JOB_ID})
_VIDEO_JOB = api.VideoJob(
    id=JOB_ID,
    model=_MODEL,
    status="in_progress",
    progress=42,
    created_at=1_896_026_400,
    completed_at=None,
    expires_at=None,
    error=None,
    prompt=_PROMPT,
    seconds="1",
    size="512x512",
)
_PRESET = api.Preset(
    name="standard",
    description="No approximation",
    defaults={"num_inference_steps": 50},
    estimate=api.PresetEstimate(gpu_kind=_KIND, plan="fp16", seconds=64.0, vram_bytes=9 * _GIB, cost=None),
    measured=api.PresetMeasure(jobs=20, shape="512x512x16", steps=50, seconds_p50=62.4, vram_peak_bytes=9_450_000_000),
)
_MODEL_EXAMPLE = api.Model(
    id=_MODEL,
    created=0,
    owned_by="ali-vilab",
    architecture="i2vgen-xl",
    random_weights=False,
    limits={
        "width": api.LimitRange(minimum=256, maximum=1536, multiple_of=8),
        "num_frames": api.LimitRange(minimum=2, maximum=64, multiple_of=1),
        "guidance_scale": api.LimitRange(minimum=1, maximum=30, multiple_of=None),
        "priority": api.LimitRange(minimum=0.01, maximum=100, multiple_of=None),
    },
    image=api.ImageLimits(
        formats=["PNG", "JPEG", "WEBP"], max_bytes=20_971_520, max_pixels=40_000_000, min_side=16, max_side=16_384
    ),
    prompt_max_chars=4000,
    defaults=_PARAMS.model_dump() | {"seed": None},
    presets=[_PRESET],
    held=None,
)
_PLAN_ESTIMATE = api.PlanEstimate(
    plan="fp16",
    fits=True,
    reason=None,
    capacity_bytes=17 * _GIB,
    model_bytes=5 * _GIB,
    working_bytes=4 * _GIB,
    vram_bytes=9 * _GIB,
    seconds=64.0,
    weight=7.1,
    basis="measured: 20 attempts of this shape",
)
_JOB_ESTIMATE = api.JobEstimate(
    model=_MODEL,
    params=_PARAMS.model_dump(),
    priority=1.0,
    fits=True,
    estimate=_ESTIMATE,
    reason=None,
    position=3,
    position_exact=True,
    wait_reason=_QUEUE_STATE.wait_reason,
    wait=_QUEUE_STATE.wait,
    expected_start=_QUEUE_STATE.expected_start,
    expected_finish=_QUEUE_STATE.expected_finish,
    cost=None,
    gpus=[
        api.GpuEstimate(
            gpu=_GPU_ID,
            name=_KIND,
            state=GpuState.ACTIVE,
            online=True,
            fits=True,
            reason=None,
            plan="fp16",
            plans=[_PLAN_ESTIMATE],
        )
    ],
)
_GPU = api.Gpu(
    id=_GPU_ID,
    host="gpu-host-1",
    name=_KIND,
    kind=_KIND,
    model=_MODEL,
    plans=["fp16", "fp16-chunked"],
    state=GpuState.ACTIVE,
    reason=None,
    actor=None,
    state_changed_at=_SUBMITTED,
    online=True,
    seen_at=_FINISHED,
    memory=api.GpuMemory(
        total_bytes=24 * _GIB,
        headroom_bytes=_GIB,
        used_bytes=10 * _GIB,
        free_bytes=14 * _GIB,
        foreign_bytes=300_000_000,
        reserved_bytes=10 * _GIB,
        offered_bytes=13 * _GIB,
        problem=None,
    ),
    utilization_percent=97.0,
    temperature_celsius=64.0,
    power_watts=312.5,
    workers=[api.GpuWorker(id=_WORKER_ID, pid=4711, model=_MODEL, plan="fp16", resident_bytes=6 * _GIB, ready=True)],
    leases=[
        api.GpuLease(
            job_id=JOB_ID,
            worker_id=_WORKER_ID,
            lane=0,
            reserved_bytes=4 * _GIB,
            started_at=_STARTED,
            predicted_seconds=64.0,
            expires_at=_FINISHED,
            release_requested=False,
            stage=Stage.DENOISING,
            progress=api.Progress(fraction=0.42, step=22, steps=50),
        )
    ],
    drain=None,
    reservation=None,
    preview=None,
)
_SAMPLES = api.SampleList(
    gpu=_GPU_ID,
    step_seconds=60,
    data=[
        api.SamplePoint(
            at="2030-01-31T18:00:00.000000Z",
            samples=30,
            problems=0,
            seconds=60.0,
            busy_seconds=58.0,
            hot_share=0.9,
            used_bytes=api.ByteLevel(mean=9 * _GIB, max=10 * _GIB),
            foreign_bytes=api.ByteLevel(mean=300_000_000, max=300_000_000),
            reserved_bytes=api.ByteLevel(mean=10 * _GIB, max=10 * _GIB),
            utilization_percent=api.Level(mean=93.5, max=99.0),
            power_watts=api.Level(mean=301.5, max=349.0),
            temperature_celsius=api.Level(mean=63.0, max=66.0),
        )
    ],
)
_TIMELINE = api.Timeline(
    since="2030-01-31T18:00:00.000000Z",
    until="2030-01-31T19:00:00.000000Z",
    resolution_seconds=6.0,
    gpus=[
        api.TimelineGpu(
            gpu=_GPU_ID,
            host="host-0",
            name=_KIND,
            total_bytes=24 * _GIB,
            bars=[
                api.TimelineBar(
                    lane=0,
                    began_at=_STARTED,
                    ended_at=_FINISHED,
                    outcome="succeeded",
                    outcomes={"succeeded": 1},
                    attempts=1,
                    attempt=api.TimelineAttempt(
                        job=JOB_ID,
                        lease=1,
                        number=1,
                        tenant="default",
                        model=_MODEL,
                        plan="fp16",
                        shape="512x512x16",
                        predicted_seconds=64.0,
                        predicted_vram_bytes=10 * _GIB,
                        vram_peak_bytes=9 * _GIB,
                        error_code=None,
                    ),
                )
            ],
            curve=api.TimelineCurve(
                since="2030-01-31T18:00:00.000000Z",
                step_seconds=1800,
                used_bytes=[10 * _GIB, None],
                reserved_bytes=[10 * _GIB, None],
                foreign_bytes=[300_000_000, None],
                utilization_percent=[93.5, None],
            ),
        )
    ],
)
_DRAINING = _GPU.model_copy(
    update={
        "state": GpuState.DRAINING,
        "reason": "new fan",
        "actor": "local",
        "drain": api.GpuDrain(
            mode=DrainMode.FINISH,
            asked_at=_STARTED,
            deadline_at="2030-01-31T18:10:02.500000Z",
            on_deadline=OnDeadline.CHECKPOINT,
            resume_at=None,
        ),
    }
)
_PREVIEWED = _GPU.model_copy(
    update={
        "preview": api.DrainPreview(
            empty_in_seconds=37.0,
            jobs=[api.JobForecast(job_id=JOB_ID, ending=Ending.FINISHES, in_seconds=37.0, lost_seconds=0.0)],
        )
    }
)
_QUEUE_STATUS = api.QueueStatus(
    paused=False,
    pause_reason=None,
    paused_at=None,
    paused_by=None,
    ready=3,
    deferred=1,
    running=1,
    oldest_wait_seconds=41.0,
    classes=[api.QueueClass(model=_MODEL, plan="fp16", up_to_bytes=4 * _GIB, jobs=3)],
    reservations=[],
)
_PAUSED = _QUEUE_STATUS.model_copy(
    update={"paused": True, "pause_reason": "maintenance", "paused_at": _STARTED, "paused_by": "local"}
)
_EVENT = api.Event(
    position=1024, at=_STARTED, type="job.running", subject=JOB_ID, tenant="default", actor=None, data={"lease": 1}
)
_ACCOUNT = api.Account(
    tenant="default",
    key=api.AccountKey(id="key_01k9zp8y5t7r3e1w9q6m4n2bvc", name="workstation", scopes=[Scope.READ, Scope.SUBMIT]),
    limits=api.AccountLimits(
        share=1.0,
        max_queued=100,
        max_running=4,
        max_priority=None,
        submits_per_minute=60,
        requests_per_minute=None,
    ),
    usage=api.AccountUsage(queued=3, running=1),
)
_ENDPOINT = api.WebhookEndpoint(
    id=_ENDPOINT_ID,
    tenant="default",
    url=_WEBHOOK_URL,
    state="enabled",
    reason=None,
    failing_since=None,
    disabled_at=None,
    created_at=_FINISHED,
)
_DELIVERY = api.WebhookDelivery(
    id=_DELIVERY_ID,
    endpoint=_ENDPOINT_ID,
    url=_WEBHOOK_URL,
    job=JOB_ID,
    type="job.succeeded",
    status=DeliveryStatus.DELIVERED,
    held=False,
    tries=1,
    created_at=_FINISHED,
    next_try_at=None,
    delivered_at=_FINISHED,
    given_up_at=None,
)
_PAYLOAD = api.WebhookPayload(
    type="job.succeeded",
    timestamp=_FINISHED,
    data=api.WebhookJob(
        id=JOB_ID,
        status=JobStatus.SUCCEEDED,
        model=_MODEL,
        metadata={"shot": "12"},
        error=None,
        video=api.WebhookVideo(url=_VIDEO.url, thumbnail_url=_VIDEO.thumbnail_url, preview_url=_VIDEO.preview_url),
    ),
)
_DELIVERY_DETAIL = api.WebhookDeliveryDetail(
    **_DELIVERY.model_dump(),
    payload=_PAYLOAD.model_dump(mode="json"),
    log=[api.WebhookTry(number=1, at=_FINISHED, seconds=0.12, status=204, error=None)],
)
_SECRET_TEXT = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # noqa: S105  an example
_A_FILE = "(the bytes of a PNG, JPEG or WebP)"
_JOB_FIELDS = {"prompt": _PROMPT, "num_frames": 16, "seed": 7, "metadata": {"shot": "12"}}

_PROGRESS = {"id", "status", "stage", "progress"}


def _outcomes(job: api.Job) -> api.Page[api.JobOutcome]:
    unknown = api.JobRefusal(status=404, code="not_found", detail=f"no job {_OTHER_JOB_ID}", retry_after_seconds=None)
    return api.Page[api.JobOutcome](
        data=[
            api.JobOutcome(id=JOB_ID, job=job, problem=None),
            api.JobOutcome(id=_OTHER_JOB_ID, job=None, problem=unknown),
        ]
    )


# By operation id, for answers that all have the same shape but not the same meaning.
_OF_CALLS: Mapping[str, Mapping[str, object]] = {
    "get_root": {"service": {"name": "reelq", "version": "1.0", "links": {"jobs": "/v1/jobs", "ready": "/readyz"}}},
    "get_health": {"alive": {"status": "ok"}},
    "submit_job": {"queued": _QUEUED},
    "cancel_job": {"cancelled": _CANCELLED, "running until its next step": _RUNNING},
    "retry_job": {"queued again": _RETRIED},
    "cancel_jobs": {"one cancelled, one unknown": _outcomes(_CANCELLED)},
    "retry_jobs": {"one queued again, one unknown": _outcomes(_RETRIED)},
    "preempt_job": {"running until its next step": _RUNNING},
    "patch_job": {"queued": _QUEUED},
    "drain_gpu": {"draining": _DRAINING, "dry run": _PREVIEWED},
    "pause_queue": {"paused": _PAUSED},
    "follow_job": {
        "status": {"event": "status", "id": "2-0", "data": _RUNNING.model_dump_json()},
        "progress": {"event": "progress", "id": "2-7", "data": _RUNNING.model_dump_json(include=_PROGRESS)},
    },
}
_COSTS = api.CostLine(
    name="",
    attempts=21,
    videos=20,
    run_seconds=2880.0,
    gpu_seconds=2700.0,
    cost=0.6,
    cost_per_video=0.03,
    failed_gpu_seconds=90.0,
    failed_cost=0.02,
    energy_joules=810_000.0,
    energy_cost=0.0675,
)
_COST_REPORT = api.CostReport(
    since=_SUBMITTED,
    until="2030-01-31T19:00:00.000000Z",
    prices=api.CostPrices(default=None, gpus={_KIND: api.GpuPrice(hour=0.8, terms=Terms.ON_DEMAND)}, energy_kwh=0.3),
    total=api.CostTotal(
        online_seconds=3600.0,
        busy_seconds=2700.0,
        idle_seconds=900.0,
        cost=0.8,
        idle_cost=0.2,
        cost_per_video=0.04,
        projected_month=576.0,
        energy_joules=864_000.0,
        energy_kwh=0.24,
        energy_cost=0.072,
    ),
    jobs=_COSTS,
    gpus=[
        api.GpuCost(
            gpu=_GPU_ID,
            name=_KIND,
            kind=_KIND,
            price=api.GpuPrice(hour=0.8, terms=Terms.ON_DEMAND),
            online_seconds=3600.0,
            busy_seconds=2700.0,
            idle_seconds=900.0,
            cost=0.8,
            busy_cost=0.6,
            idle_cost=0.2,
            energy_joules=864_000.0,
            energy_cost=0.072,
        )
    ],
    tenants=[_COSTS.model_copy(update={"name": "default"})],
    models=[_COSTS.model_copy(update={"name": _MODEL})],
    days=[_COSTS.model_copy(update={"name": "2030-01-31"})],
    outcomes=[_COSTS.model_copy(update={"name": "succeeded", "failed_gpu_seconds": 0.0, "failed_cost": 0.0})],
    stages=[
        api.CostStage(stage="denoising", gpu_seconds=2700.0, share=0.75),
        api.CostStage(stage="idle", gpu_seconds=900.0, share=0.25),
    ],
)
_FLEET = api.AdviceFleet(
    videos=1997,
    impossible=3,
    wait_seconds_mean=95.0,
    wait_seconds_p95=310.0,
    videos_per_hour=46.0,
    cost_per_video=0.03,
)
_ADVICE = api.AdviceReport(
    since="2030-01-24T19:00:00.000000Z",
    until="2030-01-31T19:00:00.000000Z",
    advice=f"Advance capacity: the load of {_KIND} is 95 % and measured growth is high, +24 % a month.",
    verdict=Verdict.ADVANCE,
    matrix=Verdict.ADVANCE,
    sureness=Sureness.HIGH,
    sureness_reason="it rests on 7.0 days of samples and 4120 attempts",
    load=0.95,
    growth=api.AdviceGrowth(high=True, monthly=0.24, source="measured", days=7),
    attempts=4120,
    steps=[
        api.AdviceStep(question="Do attempts often run out of memory?", answer=False, value=0.01, limit=0.02),
        api.AdviceStep(question="Is much growth to be expected, a month?", answer=True, value=0.24, limit=0.2),
    ],
    signals=[
        api.AdviceSignal(
            name="demand", active=True, reason="3 jobs were refused or failed for want of memory: 1536x1536x64"
        ),
        api.AdviceSignal(name="payback", active=False, reason="no price of a card was given"),
    ],
    gpus=[
        api.AdviceGpu(
            gpu=_GPU_ID,
            name=_KIND,
            load=0.95,
            memory_share=0.92,
            peak_bytes=int(22.1 * _GIB),
            total_bytes=24 * _GIB,
            utilization_percent=95.0,
            working_percent=97.0,
            hot_share=0.9,
            busy_share=0.98,
            online_seconds=604_800.0,
            diagnosis=Diagnosis.COMPUTE,
        )
    ],
    refused=[
        api.AdviceRefusal(shape="1536x1536x64", code="unschedulable", jobs=3, at_submit=True, needed_bytes=61 * _GIB)
    ],
    payback=None,
    remedies=[
        api.AdviceRemedy(
            name=RemedyName.LEANER_PLAN,
            share=0.9,
            peak_bytes=int(22.1 * _GIB),
            new_peak_bytes=int(15.3 * _GIB),
            memory_gain=0.31,
            seconds=78.0,
            new_seconds=85.0,
            time_gain=-0.09,
        )
    ],
    comparison=api.AdviceComparison(
        arrivals=2000,
        as_is=_FLEET,
        cards=[
            api.AdviceCard(
                name="NVIDIA L40S",
                memory_bytes=48 * _GIB,
                relative_speed=5.0,
                price=7500.0,
                hour=0.3,
                payback_months=13.0,
                fleet=_FLEET.model_copy(
                    update={
                        "impossible": 0,
                        "videos": 2000,
                        "wait_seconds_mean": 0.4,
                        "wait_seconds_p95": 3.0,
                        "videos_per_hour": 276.0,
                        "cost_per_video": 0.045,
                    }
                ),
            )
        ],
    ),
)
_ALERT = api.Alert(
    id="alert_01k9zqa0h3w5d8r2t6y4n7c1eb",
    rule=Rule.GPU_MEMORY_HIGH,
    severity=Severity.WARNING,
    status="firing",
    kind=Kind.GPU,
    subject=_GPU_ID,
    message=f"22.8 of 24.0 GiB of {_GPU_ID} on node-1 are in use, 95%",
    value=0.95,
    threshold=0.9,
    since="2030-01-31T18:24:00.250000Z",
    fired_at="2030-01-31T18:29:00.500000Z",
    resolved_at=None,
)
_ALERT_PAYLOAD = api.AlertPayload(type="alert.firing", timestamp=_ALERT.fired_at, data=_ALERT)


def _plain(one: object) -> Any:
    return one.model_dump(mode="json") if isinstance(one, BaseModel) else one


_CAPACITY = api.CapacityStatus(
    enabled=True,
    minimum=0,
    maximum=4,
    wanted=2,
    online=1,
    reason="9 jobs due, 420 s of work: 2 GPUs to work it off in 300 s",
    since="2030-01-31T18:29:00.500000Z",
    looked_at="2030-01-31T18:29:10.500000Z",
    cooldown_until="2030-01-31T18:39:02.250000Z",
    calls=[
        api.CapacityCall(
            id="cap_01k9zqa0h3w5d8r2t6y4n7c1eb",
            action=CapacityAction.START,
            status=CallStatus.DONE,
            count=1,
            host=None,
            gpus=[],
            wanted=2,
            online=1,
            reason="9 jobs due, 420 s of work: 2 GPUs to work it off in 300 s",
            asked_at="2030-01-31T18:29:00.500000Z",
            tries=1,
            next_try_at=None,
            done_at="2030-01-31T18:29:02.250000Z",
            error=None,
        )
    ],
)
# By the name of their schema.
_OF_SCHEMAS: Mapping[str, Mapping[str, object]] = {
    "Job": {
        "queued": _QUEUED, "running": _RUNNING, "succeeded": _SUCCEEDED, "failed": _FAILED, "cancelled": _CANCELLED
    },
    "Page_Job_": {"page": api.Page[api.Job](data=[_SUCCEEDED], has_more=True, next_cursor=JOB_ID)},
    "VideoJob": {"in progress": _VIDEO_JOB},
    "VideoPage": {
        "page": api.VideoPage(data=[_VIDEO_JOB], first_id=JOB_ID, last_id=JOB_ID, has_more=False)
    },
    "DeletedVideo": {"deleted": api.DeletedVideo(id=JOB_ID)},
    "Model": {"model": _MODEL_EXAMPLE},
    "Page_Model_": {"page": api.Page[api.Model](data=[_MODEL_EXAMPLE])},
    "JobEstimate": {"fits": _JOB_ESTIMATE},
    "Gpu": {"active": _GPU},
    "Page_Gpu_": {"page": api.Page[api.Gpu](data=[_GPU])},
    "QueueStatus": {"active": _QUEUE_STATUS},
    "Page_Event_": {"page": api.Page[api.Event](data=[_EVENT], next_cursor="1024")},
    "Account": {"account": _ACCOUNT},
    "Page_WebhookEndpoint_": {"page": api.Page[api.WebhookEndpoint](data=[_ENDPOINT])},
    "WebhookEndpoint": {"enabled": _ENDPOINT},
    "Page_WebhookDelivery_": {"page": api.Page[api.WebhookDelivery](data=[_DELIVERY])},
    "WebhookDeliveryDetail": {"delivered": _DELIVERY_DETAIL},
    "WebhookSecret": {"secret": api.WebhookSecret(secret=_SECRET_TEXT, in_force=[_SECRET_TEXT])},
    "CostReport": {"an hour": _COST_REPORT},
    "Page_Alert_": {"page": api.Page[api.Alert](data=[_ALERT])},
    "AdviceReport": {"a week": _ADVICE},
    "CapacityStatus": {"one more comes": _CAPACITY},
    "Ready": {"ready": api.Ready(workers=2, drained_gpus=0)},
    "SampleList": {"a GPU": _SAMPLES},
    "Timeline": {"an hour": _TIMELINE},
}  # fmt: skip
# By operation id and media type.
_BODIES: Mapping[tuple[str, str], Examples] = {
    ("submit_job", "multipart/form-data"): {
        "a picture": {"image": _A_FILE, "prompt": _PROMPT, "num_frames": 16}
    },
    ("submit_job", "application/json"): {
        "a data URI": _JOB_FIELDS | {"image": _PNG},
        "a URL, and a webhook": _JOB_FIELDS
        | {"image": "https://example.com/fox.jpg", "webhook_url": _WEBHOOK_URL, "result_ttl_seconds": 86_400},
    },
    ("create_video", "multipart/form-data"): {
        "a picture": {
            "input_reference": _A_FILE, "prompt": _PROMPT, "seconds": "1", "size": "512x512"
        }
    },
    ("create_video", "application/json"): {
        "a data URI": {"input_reference": {"image_url": _PNG}, "prompt": _PROMPT, "seconds": "1"}
    },
    ("cancel_jobs", "application/json"): {"two": {"ids": [JOB_ID, _OTHER_JOB_ID]}},
    ("retry_jobs", "application/json"): {"two": {"ids": [JOB_ID, _OTHER_JOB_ID]}},
    ("estimate_job", "application/json"): {"a larger one": {"width": 768, "height": 768, "num_frames": 24}},
    ("drain_gpu", "application/json"): {
        "finish first": {"reason": "new fan", "deadline_seconds": 600},
        "what would happen": {"reason": "new fan", "mode": "checkpoint", "dry_run": True},
    },
    ("drain_gpus", "application/json"): {"one": {"reason": "new fan", "gpus": [_GPU_ID]}},
    ("resume_gpus", "application/json"): {"one": {"gpus": [_GPU_ID]}},
    ("pause_queue", "application/json"): {"maintenance": {"reason": "maintenance"}},
    ("patch_job", "application/json"): {"sooner": {"priority": 10}},
    ("preempt_job", "application/json"): {"with its reason": {"reason": "a demo needs the GPU"}},
    ("receive_job_event", "application/json"): {"a video is there": _plain(_PAYLOAD)},
    ("receive_alert", "application/json"): {"a full GPU": _plain(_ALERT_PAYLOAD)},
    ("hold_model", "application/json"): {"with its reason": {"reason": "its videos are black"}},
}  # fmt: skip
_PARAMETERS: Mapping[str, Any] = {
    "job_id": JOB_ID,
    "video_id": JOB_ID,
    "endpoint_id": _ENDPOINT_ID,
    "delivery_id": _DELIVERY_ID,
    "gpu_id": _GPU_ID,
    "model": _MODEL,
    "status": "delivered",
    "q": "red fox",
    "created_after": "2030-01-31T00:00:00Z",
    "created_before": "2030-02-01T00:00:00Z",
    "tenant": "default",
    "cursor": JOB_ID,
    "limit": 20,
    "wait": 30,
    "job": JOB_ID,
    "subject": JOB_ID,
    "variant": "video",
    "order": "desc",
    "Idempotency-Key": "9b2f6c1e-shot-12",
    "If-None-Match": 'W/"3-22"',
    "If-Range": f'"{_SHA256}"',
    "Range": "bytes=0-65535",
    "Last-Event-ID": "2-7",
    "gpu": _GPU_ID,
    "since": "2030-01-31T18:00:00Z",
    "until": "2030-01-31T19:00:00Z",
    "growth": "0.2",
    "card_price": 700.0,
}


def of_answer(operation: str, schema: str | None) -> Examples:
    """Return the examples of a call's answer, by name; `schema` is the name of the answer's, where it has one."""
    found = _OF_CALLS.get(operation) or _OF_SCHEMAS.get(schema or "", {})
    return {name: _plain(one) for name, one in found.items()}


def of_body(operation: str, media_type: str) -> Examples:
    """Return the examples of what a call is sent, by name."""
    return _BODIES.get((operation, media_type), {})


def of_parameter(operation: str, name: str) -> Any:
    """Return the example of a parameter, or None."""
    if (operation, name) == ("list_jobs", "status"):
        return ["queued", "running"]
    if name == "after":
        return 1023 if operation == "list_events" else JOB_ID
    return _PARAMETERS.get(name)
