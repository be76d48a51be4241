"""When an operator is to be told: rules over what is so now and has been lately. Pure: they read and write nothing.

They are those of docker/prometheus-alerts.yaml, with the same numbers, for who has no Prometheus; and one more, of the
hook that starts and stops GPUs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from scheduler.records import Gpu
from scheduler.samples import Totals
from scheduler.states import GpuState

RECENT_SECONDS = 3600.0  # how far back "lately" goes, for shares of jobs and attempts and for worn workers
ACTIVITY_SECONDS = 600.0  # the time over which a GPU's utilisation is averaged
QUEUE = "queue"  # the subject of what concerns all jobs
_ALWAYS = 0.99  # of the time
_GIB = 2**30


class Severity(StrEnum):
    """How soon somebody should look."""

    WARNING = "warning"
    CRITICAL = "critical"


class Kind(StrEnum):
    """What an alert is about."""

    GPU = "gpu"
    JOB = "job"
    QUEUE = "queue"
    DISK = "disk"
    CAPACITY = "capacity"


class Rule(StrEnum):
    """What an operator is told of; the names are stable."""

    GPU_MEMORY_HIGH = "gpu_memory_high"
    JOB_OVERRUN = "job_overrun"
    WAITING_LONG = "waiting_long"
    OUT_OF_MEMORY = "out_of_memory"
    WORKER_WORN = "worker_worn"
    GPU_STARVED = "gpu_starved"
    GPU_LOST = "gpu_lost"
    DISK_LOW = "disk_low"
    CAPACITY_FAILED = "capacity_failed"

    @property
    def kind(self) -> Kind:
        """What its alerts are about."""
        return _NATURES[self].kind

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return _NATURES[self].severity

    @property
    def for_seconds(self) -> float:
        """How long its condition must have held before it fires."""
        return _NATURES[self].for_seconds


@dataclass(frozen=True, slots=True)
class _Nature:
    kind: Kind
    severity: Severity
    for_seconds: float


_NATURES: Mapping[Rule, _Nature] = {
    Rule.GPU_MEMORY_HIGH: _Nature(Kind.GPU, Severity.WARNING, 300.0),
    Rule.JOB_OVERRUN: _Nature(Kind.JOB, Severity.WARNING, 60.0),
    Rule.WAITING_LONG: _Nature(Kind.QUEUE, Severity.WARNING, 900.0),
    Rule.OUT_OF_MEMORY: _Nature(Kind.QUEUE, Severity.WARNING, 300.0),
    Rule.WORKER_WORN: _Nature(Kind.GPU, Severity.WARNING, 0.0),
    Rule.GPU_STARVED: _Nature(Kind.GPU, Severity.WARNING, 300.0),
    Rule.GPU_LOST: _Nature(Kind.GPU, Severity.CRITICAL, 60.0),
    Rule.DISK_LOW: _Nature(Kind.DISK, Severity.CRITICAL, 300.0),
    Rule.CAPACITY_FAILED: _Nature(Kind.CAPACITY, Severity.CRITICAL, 60.0),
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as too much or too little. Shares are in [0, 1]; settings fill them in."""

    memory: float = 0.9  # of a GPU's memory
    overrun: float = 2.0  # times the predicted seconds of a job
    waiting: float = 0.1  # of the time that jobs take in all
    out_of_memory: float = 0.02  # of the attempts
    worn: int = 1  # workers of a GPU
    utilization: float = 0.5  # below it, a GPU that is busy and full does little
    full: float = 0.8  # of a GPU's memory, for that
    disk: float = 2.0  # times the free bytes below which submissions are refused


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of this machine that the service writes to; below `required_bytes` free, submissions are refused."""

    name: str
    free_bytes: int
    required_bytes: int


@dataclass(frozen=True, slots=True)
class Worn:
    """A worker process that has given way to a new one, and why."""

    gpu_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call of the hook that starts and stops GPUs, which has failed so far: `action` is what for."""

    id: str
    action: str
    tries: int
    error: str


@dataclass(frozen=True, slots=True)
class Look:
    """What the rules go by. The counts and sums are of the last `RECENT_SECONDS`; `worn` has the newest last.

    `activity` has what the samples of GPUs add up to over `ACTIVITY_SECONDS`; only such with full memory need be there.
    """

    now: float
    gpus: Sequence[Gpu] = ()
    activity: Mapping[str, Totals] = field(default_factory=dict)
    wait_seconds: float = 0.0  # until the first start, of the jobs that have ended
    turnaround_seconds: float = 0.0  # in all, of these
    attempts: int = 0  # that have ended
    out_of_memory: int = 0  # of these, for want of memory
    worn: Sequence[Worn] = ()
    failed_calls: Sequence[FailedCall] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that an operator is told of if it lasts: `value` is beyond `threshold`, as `message` says in words."""

    rule: Rule
    subject: str
    value: float
    threshold: float
    message: str


def conditions(look: Look, thresholds: Thresholds) -> list[Condition]:
    """Return what is wrong with GPUs and jobs: of each rule and subject at most one."""
    found = [
        *_waiting_long(look, thresholds.waiting),
        *_out_of_memory(look, thresholds.out_of_memory),
        *_worker_worn(look, thresholds.worn),
        *_capacity_failed(look),
    ]
    for gpu in look.gpus:
        found += _gpu_lost(gpu, look.now)
        found += _gpu_memory_high(gpu, thresholds.memory)
        found += _gpu_starved(gpu, look.activity.get(gpu.info.id), thresholds)
        found += _job_overrun(gpu, look.now, thresholds.overrun)
    return found


def disk_conditions(host: str, disks: Iterable[Disk], factor: float) -> list[Condition]:
    """Return which disks of a host have less free than `factor` times what they must."""
    return [
        Condition(
            Rule.DISK_LOW,
            f"{host}/{disk.name}",
            disk.free_bytes,
            factor * disk.required_bytes,
            f"the disk for {disk.name} on {host} has {_gib(disk.free_bytes)} GiB free;"
            f" below {_gib(disk.required_bytes)} GiB submissions are refused",
        )
        for disk in disks
        if disk.free_bytes < factor * disk.required_bytes
    ]


def is_full(gpu: Gpu, share: float) -> bool:
    """Tell whether more than `share` of a GPU's memory is in use, as far as it can be seen now."""
    return _memory_share(gpu) > share


def _gpu_memory_high(gpu: Gpu, threshold: float) -> Iterator[Condition]:
    if is_full(gpu, threshold):
        share, total = _memory_share(gpu), gpu.info.total_bytes
        message = f"{_gib(share * total)} of {_gib(total)} GiB of {_named(gpu)} are in use, {share:.0%}"
        yield Condition(Rule.GPU_MEMORY_HIGH, gpu.info.id, share, threshold, message)


def _gpu_starved(gpu: Gpu, activity: Totals | None, thresholds: Thresholds) -> Iterator[Condition]:
    if activity is None or activity.utilization_percent is None or not is_full(gpu, thresholds.full):
        return
    computing = activity.utilization_percent.mean / 100
    busy = 0 < activity.seconds * _ALWAYS <= activity.busy_seconds
    if busy and computing < thresholds.utilization:
        message = (
            f"{_named(gpu)} runs jobs and {_memory_share(gpu):.0%} of its memory is in use, but it computes only"
            f" {computing:.0%} of the time: look at the CPU, the disk and the network"
        )
        yield Condition(Rule.GPU_STARVED, gpu.info.id, computing, thresholds.utilization, message)


def _gpu_lost(gpu: Gpu, now: float) -> Iterator[Condition]:
    if gpu.state is GpuState.FAULTED:
        since, why = gpu.state_changed_at, f"is out of service: {gpu.reason}"
    elif not gpu.online and gpu.state is not GpuState.DRAINED:
        since, why = gpu.seen_at, f"has not been heard of for {now - gpu.seen_at:.0f} s"
    else:
        return
    yield Condition(Rule.GPU_LOST, gpu.info.id, max(0.0, now - since), 0.0, f"{_named(gpu)} {why}")


def _job_overrun(gpu: Gpu, now: float, threshold: float) -> Iterator[Condition]:
    for lease in gpu.leases:
        seconds = now - lease.started_at
        factor = seconds / lease.predicted_seconds
        if factor > threshold:
            message = (
                f"{lease.job_id} has run for {seconds:.0f} s on {_named(gpu)}, {factor:.1f} times the"
                f" {lease.predicted_seconds:.0f} s that were predicted"
            )
            yield Condition(Rule.JOB_OVERRUN, lease.job_id, factor, threshold, message)


def _waiting_long(look: Look, threshold: float) -> Iterator[Condition]:
    share = look.wait_seconds / look.turnaround_seconds if look.turnaround_seconds > 0 else 0.0
    if share > threshold:
        message = (
            f"of the {look.turnaround_seconds:.0f} s that the jobs of the last hour took,"
            f" {look.wait_seconds:.0f} s were waiting, {share:.0%}"
        )
        yield Condition(Rule.WAITING_LONG, QUEUE, share, threshold, message)


def _out_of_memory(look: Look, threshold: float) -> Iterator[Condition]:
    share = look.out_of_memory / look.attempts if look.attempts else 0.0
    if share > threshold:
        message = (
            f"{look.out_of_memory} of the {look.attempts} attempts of the last hour ran out of memory, {share:.1%}"
        )
        yield Condition(Rule.OUT_OF_MEMORY, QUEUE, share, threshold, message)


def _worker_worn(look: Look, threshold: int) -> Iterator[Condition]:
    reasons: dict[str, list[str]] = {}
    for worn in look.worn:
        reasons.setdefault(worn.gpu_id, []).append(worn.reason)
    for gpu_id, of_gpu in reasons.items():
        if len(of_gpu) >= threshold:
            workers = "1 worker" if len(of_gpu) == 1 else f"{len(of_gpu)} workers"
            message = f"{workers} of {gpu_id} had to be replaced in the last hour: {of_gpu[-1]}"
            yield Condition(Rule.WORKER_WORN, gpu_id, len(of_gpu), threshold, message)


def _capacity_failed(look: Look) -> Iterator[Condition]:
    for call in look.failed_calls:
        message = f"the hook cannot {call.action} GPUs, it was tried {call.tries} times: {call.error}"
        yield Condition(Rule.CAPACITY_FAILED, call.id, call.tries, 0.0, message)


def _memory_share(gpu: Gpu) -> float:
    return (gpu.sample.used_bytes or 0) / gpu.info.total_bytes if gpu.online else 0.0


def _named(gpu: Gpu) -> str:
    return f"{gpu.info.id} on {gpu.info.host}"


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / _GIB:.1f}"
