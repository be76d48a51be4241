"""The rules of alerts: known answers for each, and the same numbers as Prometheus has."""

import re
from pathlib import Path

import pytest
import yaml

from scheduler.alerts import (
    QUEUE,
    Condition,
    Disk,
    FailedCall,
    Kind,
    Look,
    Rule,
    Severity,
    Thresholds,
    Worn,
    conditions,
    disk_conditions,
)
from scheduler.records import Gpu, GpuSample, OpenLease, Progress
from scheduler.samples import Level, Totals
from scheduler.states import GpuState, Stage
from tests.support.fleet import GIB, gpu_info

NOW = 1_800_000_000.0
DEFAULTS = Thresholds()
PROMETHEUS = yaml.safe_load((Path(__file__).parents[3] / "docker" / "prometheus-alerts.yaml").read_text())


def lease(job_id="job_a", seconds=10.0, predicted=10.0):
    progress = Progress(Stage.DENOISING, 1, 50, 0.02)
    return OpenLease(job_id, 1, "worker", 0, GIB, NOW - seconds, predicted, NOW + 9, False, NOW, progress)


def gpu(used=0.0, *, online=True, state=GpuState.ACTIVE, reason=None, leases=(), seen_at=NOW):
    total = 24 * GIB
    sample = GpuSample(None, None) if used is None else GpuSample(int(used * total), total - int(used * total))
    return Gpu(
        gpu_info(), state, reason, None, NOW - 600, sample, seen_at, online, None, None, workers=(), leases=leases
    )


def activity(percent=30.0, seconds=600.0, busy=600.0):
    level = None if percent is None else Level(percent, 100.0)
    return {
        "GPU-0": Totals(
            samples=120, problems=0, seconds=seconds, busy_seconds=busy, hot_share=0.0, used_bytes=None,
            foreign_bytes=None, reserved_bytes=None, utilization_percent=level, power_watts=None,
            temperature_celsius=None,
        )
    }  # fmt: skip


def found(*gpus, thresholds=DEFAULTS, **more):
    return {(one.rule, one.subject): one for one in conditions(Look(NOW, gpus, **more), thresholds)}


def the_only(*gpus, **more) -> Condition:
    (one,) = found(*gpus, **more).values()
    return one


def test_nothing_is_wrong_with_nothing_and_with_a_fleet_that_is_well():
    assert found() == {}
    well = gpu(0.9, leases=(lease(seconds=20.0),))
    assert (
        found(well, activity=activity(50.0), wait_seconds=10.0, turnaround_seconds=100.0, attempts=50, out_of_memory=1)
        == {}
    )


def test_a_hook_for_capacity_that_fails():
    one = the_only(failed_calls=[FailedCall("cap_1", "start", 4, "it ended with exit code 7: no quota")])
    assert (one.rule, one.subject, one.value) == (Rule.CAPACITY_FAILED, "cap_1", 4)
    assert one.message == (
        "the hook cannot start GPUs, it was tried 4 times: it ended with exit code 7: no quota"
    )  # fmt: skip


def test_memory_almost_full():
    one = the_only(gpu(0.95))
    assert (one.rule, one.subject, one.threshold) == (Rule.GPU_MEMORY_HIGH, "GPU-0", 0.9)
    assert one.value == pytest.approx(0.95)
    assert one.message == "22.8 of 24.0 GiB of GPU-0 on host-0 are in use, 95%"


@pytest.mark.parametrize("unseen", [gpu(None), gpu(0.95, online=False, state=GpuState.DRAINED, reason="new fan")])
def test_memory_that_is_not_seen_is_not_full(unseen):
    assert found(unseen) == {}


def test_a_job_that_takes_more_than_twice_as_long_as_predicted():
    running = (lease("job_a", 20.0), lease("job_b", 25.0), lease("job_c", 90.0, predicted=60.0))
    one = the_only(gpu(0.5, leases=running))
    assert (one.rule, one.subject, one.value, one.threshold) == (Rule.JOB_OVERRUN, "job_b", 2.5, 2.0)
    assert one.message == "job_b has run for 25 s on GPU-0 on host-0, 2.5 times the 10 s that were predicted"


def test_waiting_for_more_than_a_tenth_of_the_time():
    one = the_only(wait_seconds=30.0, turnaround_seconds=200.0)
    assert (one.rule, one.subject, one.value, one.threshold) == (Rule.WAITING_LONG, QUEUE, 0.15, 0.1)
    assert one.message == "of the 200 s that the jobs of the last hour took, 30 s were waiting, 15%"


def test_attempts_that_run_out_of_memory():
    one = the_only(attempts=40, out_of_memory=1)
    assert (one.rule, one.subject, one.value, one.threshold) == (Rule.OUT_OF_MEMORY, QUEUE, 0.025, 0.02)
    assert one.message == "1 of the 40 attempts of the last hour ran out of memory, 2.5%"


def test_workers_that_leak_count_by_gpu():
    leaks = [Worn("GPU-0", "600 MiB"), Worn("GPU-1", "1 MiB"), Worn("GPU-0", "700 MiB more than at first")]
    assert [one.value for one in found(worn=leaks).values()] == [2, 1]
    one = the_only(worn=leaks, thresholds=Thresholds(worn=2))
    assert (one.rule, one.subject, one.value, one.threshold) == (Rule.WORKER_WORN, "GPU-0", 2, 2)
    assert one.message == "2 workers of GPU-0 had to be replaced in the last hour: 700 MiB more than at first"
    assert found(worn=leaks[:1])[Rule.WORKER_WORN, "GPU-0"].message.startswith("1 worker of GPU-0 ")


def test_a_gpu_that_is_full_and_busy_and_does_little():
    one = the_only(gpu(0.85, leases=(lease(),)), activity=activity(30.0))
    assert (one.rule, one.subject, one.value, one.threshold) == (Rule.GPU_STARVED, "GPU-0", 0.3, 0.5)
    assert one.message == (
        "GPU-0 on host-0 runs jobs and 85% of its memory is in use, but it computes only 30% of the time:"
        " look at the CPU, the disk and the network"
    )


@pytest.mark.parametrize(
    ("used", "of"),
    [
        (0.8, activity(30.0)),  # there is room
        (0.85, activity(30.0, busy=500.0)),  # it had nothing to do
        (0.85, activity(30.0, seconds=0.0, busy=0.0)),
        (0.85, activity(None)),  # nobody knows
        (0.85, {}),
    ],
)
def test_a_gpu_that_may_do_little(used, of):
    assert found(gpu(used), activity=of) == {}


def test_a_gpu_that_is_lost():
    silent = the_only(gpu(online=False, seen_at=NOW - 75))
    assert (silent.rule, silent.value) == (Rule.GPU_LOST, 75.0)
    assert silent.message == "GPU-0 on host-0 has not been heard of for 75 s"
    faulted = the_only(gpu(state=GpuState.FAULTED, reason="Xid 79"))
    assert (faulted.rule, faulted.value) == (Rule.GPU_LOST, 600.0)
    assert faulted.message == "GPU-0 on host-0 is out of service: Xid 79"
    draining = gpu(online=False, state=GpuState.DRAINING, reason="new fan", seen_at=NOW - 75)
    assert the_only(draining).rule is Rule.GPU_LOST


def test_a_disk_that_is_almost_full():
    disks = [Disk("blobs", 2 * GIB - 1, GIB), Disk("database", 2 * GIB, GIB)]
    (one,) = disk_conditions("node-1", disks, factor=2.0)
    assert (one.rule, one.subject, one.threshold) == (Rule.DISK_LOW, "node-1/blobs", 2 * GIB)
    assert one.message == "the disk for blobs on node-1 has 2.0 GiB free; below 1.0 GiB submissions are refused"


def test_thresholds_are_those_that_are_given():
    lenient = Thresholds(memory=0.99, overrun=9.0, waiting=0.5, out_of_memory=0.5, utilization=0.1, full=0.99)
    bad = gpu(0.95, leases=(lease(seconds=50.0),))
    more = {"activity": activity(30.0), "wait_seconds": 30.0, "turnaround_seconds": 100.0}
    assert len(found(bad, **more, attempts=10, out_of_memory=1)) == 5
    assert found(bad, **more, attempts=10, out_of_memory=1, thresholds=lenient) == {}


@pytest.mark.parametrize(
    ("rule", "alert", "names"),
    [
        (Rule.GPU_MEMORY_HIGH, "ReelqGpuMemoryHigh", ["memory"]),
        (Rule.JOB_OVERRUN, "ReelqJobOverrun", ["overrun"]),
        (Rule.WAITING_LONG, "ReelqWaitingLong", ["waiting"]),
        (Rule.OUT_OF_MEMORY, "ReelqOutOfMemory", ["out_of_memory"]),
        (Rule.WORKER_WORN, "ReelqWorkerWorn", ["worn"]),
        (Rule.GPU_STARVED, "ReelqGpuStarved", ["utilization", "full"]),
        (Rule.DISK_LOW, "ReelqDiskLow", ["disk"]),
        (Rule.GPU_LOST, "ReelqGpuLost", []),
    ],
)
def test_the_numbers_are_those_that_prometheus_has(rule, alert, names):
    (there,) = [one for group in PROMETHEUS["groups"] for one in group["rules"] if one["alert"] == alert]
    assert there["labels"]["severity"] == rule.severity
    assert rule.for_seconds == int(there.get("for", "0m").removesuffix("m")) * 60
    limits = [float(number) for number in re.findall(r"[<>]=? ([0-9.]+)", there["expr"])]
    of_ours = [getattr(DEFAULTS, name) for name in names]
    assert [limit for limit in limits if limit > 0] == of_ours


def test_each_rule_is_about_something():
    assert {rule.kind for rule in Rule} == set(Kind)
    assert {rule.severity for rule in Rule} == set(Severity)
