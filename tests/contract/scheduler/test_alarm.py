"""Alerts fire once, stay while their conditions do, and are resolved once, however many look for them."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from scheduler.alarm import EVERY_SECONDS, FIRING, RESOLVED, Alarm, Alert, Alerts
from scheduler.alerts import Disk, Rule, Thresholds
from scheduler.fan_out import ALERT_TYPES, Operator
from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.records import GpuSample, JobError
from scheduler.service import Scheduler
from scheduler.store import schema as s
from scheduler.tenants import OPERATOR
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu, snapshot

CLEAR, DAY = 300.0, 86_400.0
STEP = 2 * EVERY_SECONDS  # between two looks: seldom, but often enough
LOW = Disk("blobs", GIB, GIB)
FULL = GpuSample(23 * GIB, GIB, utilization_percent=30.0)
WELL = GpuSample(12 * GIB, 12 * GIB, utilization_percent=30.0)
URL = "http://alerts.internal/hook"


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def disks() -> list[Disk]:
    """The disks of this host, which a test may change."""
    return []


@pytest.fixture
def alarm(scheduler: Scheduler, disks: list[Disk]) -> Alarm:
    return make_alarm(scheduler, disks)


def make_alarm(scheduler: Scheduler, disks: list[Disk], host: str = "node-1") -> Alarm:
    return Alarm(
        scheduler.database,
        scheduler.fleet,
        scheduler.samples,
        Thresholds(),
        host=host,
        disks=lambda: disks,
        clear_seconds=CLEAR,
        retention_seconds=2 * DAY,
    )


def alerts(scheduler: Scheduler) -> list[Alert]:
    return Alerts(scheduler.database).told()


def firing(scheduler: Scheduler) -> dict[Rule, str]:
    return {one.rule: one.subject for one in alerts(scheduler) if one.resolved_at is None}


def events(scheduler: Scheduler) -> list[tuple[str, str]]:
    """Return what the log says of alerts: what happened to which."""
    return [(one.type, one.data["rule"]) for one in scheduler.events.read(limit=1000) if one.type in ALERT_TYPES]


def rows(scheduler: Scheduler) -> int:
    return len(snapshot(scheduler)["alerts"])


@pytest.fixture
def watch(scheduler: Scheduler, alarm: Alarm, clock: Clock) -> Any:
    """Return what lets time pass, while the GPUs named are sampled and the alarm looks."""

    def passing(seconds: float, **gpus: GpuSample) -> list[str]:
        changes: list[str] = []
        until = clock.seconds + seconds
        while clock.seconds < until:
            clock.advance(STEP)
            for gpu_id, look in gpus.items():
                scheduler.fleet.sample(gpu_id.replace("_", "-"), look)
            changes += alarm.run_once()
        return changes

    return passing


def test_it_fires_once_stays_and_is_resolved_once(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    assert watch(300, GPU_0=FULL) == []
    assert alerts(scheduler) == []
    assert watch(10, GPU_0=FULL) == [
        "alert.firing: gpu_memory_high: 23.0 of 24.0 GiB of GPU-0 on host-0 are in use, 96%"
    ]
    assert watch(600, GPU_0=FULL) == []
    assert watch(CLEAR - 10, GPU_0=WELL) == []
    assert watch(60, GPU_0=FULL) == [], "it came back meanwhile"
    (alert,) = alerts(scheduler)
    assert (alert.rule, alert.subject, alert.resolved_at) == (Rule.GPU_MEMORY_HIGH, "GPU-0", None)
    assert alert.fired_at - alert.since == 300

    (change,) = watch(CLEAR, GPU_0=WELL)
    assert change.startswith("alert.resolved: gpu_memory_high: ")
    assert watch(CLEAR, GPU_0=WELL) == []
    (alert,) = alerts(scheduler)
    assert alert.resolved_at is not None
    assert events(scheduler) == [(FIRING, Rule.GPU_MEMORY_HIGH), (RESOLVED, Rule.GPU_MEMORY_HIGH)]

    watch(310, GPU_0=FULL)
    assert [one.resolved_at is None for one in alerts(scheduler)] == [True, False], "another one, shown first"


def test_what_does_not_last_is_forgotten(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    watch(200, GPU_0=FULL)
    assert rows(scheduler) == 1
    watch(10, GPU_0=WELL)
    assert rows(scheduler) == 1
    watch(10, GPU_0=WELL)
    assert rows(scheduler) == 0
    watch(290, GPU_0=FULL)
    assert alerts(scheduler) == []


def test_what_nobody_has_watched_for_a_while_counts_from_anew(
    scheduler: Scheduler, gpu: RegisteredGpu, watch: Any, clock: Clock
) -> None:
    watch(100, GPU_0=FULL)
    clock.advance(3600)
    watch(290, GPU_0=FULL)
    assert alerts(scheduler) == []
    watch(20, GPU_0=FULL)
    assert firing(scheduler) == {Rule.GPU_MEMORY_HIGH: "GPU-0"}


def test_a_gpu_that_is_silent(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    watch(60, GPU_0=WELL)
    watch(80)
    assert firing(scheduler) == {Rule.GPU_LOST: "GPU-0"}
    watch(CLEAR, GPU_0=WELL)
    assert firing(scheduler) == {}


def test_a_gpu_that_is_faulted(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    scheduler.fleet.fault("GPU-0", "Xid 79")
    watch(70, GPU_0=WELL)
    (alert,) = alerts(scheduler)
    assert (alert.rule, alert.severity) == (Rule.GPU_LOST, "critical")
    assert alert.message == "GPU-0 on host-0 is out of service: Xid 79"


def test_a_gpu_that_is_drained_is_not_lost(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    scheduler.fleet.worker_gone(gpu.workers[0])
    scheduler.fleet.drain("GPU-0", "new fan", "op")
    watch(120)
    assert firing(scheduler) == {}


def test_a_job_that_runs_too_long(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    scheduler.queue.submit(new_job())
    lease = gpu.must_claim()
    predicted = scheduler.fleet.gpu("GPU-0").leases[0].predicted_seconds
    watch(2 * predicted, GPU_0=WELL)
    assert firing(scheduler) == {}
    watch(70, GPU_0=WELL)
    assert firing(scheduler) == {Rule.JOB_OVERRUN: lease.job_id}
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    watch(CLEAR + 5, GPU_0=WELL)
    assert firing(scheduler) == {}


def test_a_full_gpu_that_computes_little(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    full = replace(FULL, used_bytes=20 * GIB, free_bytes=4 * GIB)
    watch(700, GPU_0=full)
    assert firing(scheduler) == {}, "it has nothing to do"
    scheduler.queue.submit(new_job(num_inference_steps=500))
    gpu.must_claim()
    watch(620, GPU_0=full)
    assert Rule.GPU_STARVED not in firing(scheduler), "it had, for some of the last ten minutes"
    watch(310, GPU_0=full)
    assert firing(scheduler)[Rule.GPU_STARVED] == "GPU-0"


def test_waiting_and_out_of_memory_count_for_an_hour(
    scheduler: Scheduler, gpu: RegisteredGpu, watch: Any, clock: Clock
) -> None:
    scheduler.queue.submit(new_job())
    clock.advance(100)
    lease = gpu.must_claim()
    clock.advance(50)
    scheduler.leases.fail(lease, JobError(OUT_OF_MEMORY, "it needed more"))
    watch(910, GPU_0=WELL)
    found = {one.rule: one for one in alerts(scheduler)}
    assert {rule: one.value for rule, one in found.items()} == {
        Rule.WAITING_LONG: pytest.approx(100 / 150),
        Rule.OUT_OF_MEMORY: 1.0,
    }
    clock.advance(3600)
    watch(10, GPU_0=WELL)
    assert firing(scheduler) == {}


def test_a_worker_that_leaks_is_told_at_once(
    scheduler: Scheduler, gpu: RegisteredGpu, watch: Any, clock: Clock
) -> None:
    scheduler.fleet.worker_worn(gpu.workers[0], "GPU-0", "700 MiB more than at first stay behind")
    watch(5, GPU_0=WELL)
    (alert,) = alerts(scheduler)
    assert (alert.rule, alert.subject, alert.value) == (Rule.WORKER_WORN, "GPU-0", 1)
    assert alert.message.endswith(": 700 MiB more than at first stay behind")
    clock.advance(3580)
    watch(10, GPU_0=WELL)  # it is an hour ago
    watch(CLEAR - 10, GPU_0=WELL)
    assert firing(scheduler) == {Rule.WORKER_WORN: "GPU-0"}
    watch(10, GPU_0=WELL)
    assert firing(scheduler) == {}


def test_each_looks_at_its_own_disks(
    scheduler: Scheduler, alarm: Alarm, disks: list[Disk], clock: Clock, watch: Any
) -> None:
    its_disks = [LOW]
    second = make_alarm(scheduler, its_disks, host="node-2")
    for _ in range(31):
        clock.advance(STEP)
        alarm.run_once()  # has the turn
        second.run_once()
    assert firing(scheduler) == {Rule.DISK_LOW: "node-2/blobs"}
    its_disks.clear()
    watch(CLEAR)
    assert firing(scheduler) == {}, "also where that host is no more"


def test_only_one_looks_and_the_others_do_not_write(
    scheduler: Scheduler, gpu: RegisteredGpu, alarm: Alarm, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    alarm.run_once()
    with monkeypatch.context() as patch:
        patch.setattr(scheduler.fleet.__class__, "gpus", None)
        patch.setattr(scheduler.database.__class__, "write", None)
        assert alarm.run_once() == []
    clock.advance(EVERY_SECONDS)
    scheduler.fleet.worker_worn(gpu.workers[0], "GPU-0", "it leaks")
    assert len(alarm.run_once()) == 1


def test_many_at_once_tell_it_once(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    alarms = [make_alarm(scheduler, [LOW]) for _ in range(6)]
    scheduler.fleet.worker_worn(gpu.workers[0], "GPU-0", "it leaks")
    with ThreadPoolExecutor(len(alarms)) as pool:
        for _ in range(31):
            clock.advance(STEP)
            scheduler.fleet.sample("GPU-0", WELL)
            for done in [pool.submit(alarm.run_once) for alarm in alarms]:
                done.result(timeout=60)
    assert sorted(events(scheduler)) == [(FIRING, Rule.DISK_LOW), (FIRING, Rule.WORKER_WORN)]


def test_what_is_listed_and_kept(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any, clock: Clock) -> None:
    scheduler.fleet.worker_worn(gpu.workers[0], "GPU-0", "it leaks")
    watch(10, GPU_0=WELL)
    clock.advance(3600)
    watch(10, GPU_0=WELL)
    assert len(alerts(scheduler)) == 1
    clock.advance(DAY + 1)
    assert alerts(scheduler) == []
    assert rows(scheduler) == 1
    clock.advance(DAY)
    watch(5, GPU_0=WELL)
    with scheduler.database.read() as conn:
        assert Rule.WORKER_WORN not in conn.execute(select(s.alerts.c.rule)).scalars().all()


def test_the_operator_is_told_of_both_ends(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any, clock: Clock) -> None:
    webhooks = scheduler.webhooks
    operator = Operator(URL, lambda event: json.dumps([event.type, event.data["message"]]))
    scheduler.fleet.worker_worn(gpu.workers[0], "GPU-0", "it leaks")
    watch(5, GPU_0=WELL)
    assert scheduler.fan_out.tell(lambda _: "", operator) == 1
    assert scheduler.fan_out.tell(lambda _: "", operator) == 0
    (due,) = webhooks.claim_due(10, 60.0)
    message = "1 worker of GPU-0 had to be replaced in the last hour: it leaks"
    assert (due.tenant, due.url, json.loads(due.payload)) == (OPERATOR, URL, [FIRING, message])
    assert due.secrets == webhooks.secrets(OPERATOR)
    webhooks.delivered(due.delivery_id, 0.1, 204)

    clock.advance(3600)
    watch(10, GPU_0=WELL)
    assert scheduler.fan_out.tell(lambda _: "", operator) == 1
    (resolved, fired) = webhooks.deliveries(OPERATOR)
    (alert,) = alerts(scheduler)
    assert [one.type for one in (fired, resolved)] == list(ALERT_TYPES)
    assert {fired.job_id, resolved.job_id} == {alert.id}


def test_without_an_endpoint_nobody_is_told(scheduler: Scheduler, gpu: RegisteredGpu, watch: Any) -> None:
    webhooks = scheduler.webhooks
    scheduler.fleet.worker_worn(gpu.workers[0], "GPU-0", "it leaks")
    watch(5, GPU_0=WELL)
    assert scheduler.fan_out.tell(lambda _: "") == 0
    assert webhooks.deliveries() == []
