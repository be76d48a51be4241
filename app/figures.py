"""The stores' figures as metrics: the queue, attempts, waits, GPUs and disks.

`…_total`, `…_sum` and `…_count` begin at 0 again with each period of `scheduler.tallies`, which Prometheus takes for
a restart: `rate` and `increase` see through it, and miss only what ended between the last look and midnight. Sums over
all attempts kept would fall whenever old ones are deleted, and each such fall would count as a restart too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from scheduler.alerts import Disk
from scheduler.control import QueueState
from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.provision import State
from scheduler.records import Gpu, GpuSample
from scheduler.states import GpuState
from scheduler.tallies import Comparison, Tally

_RUN = ("model", "plan", "gpu_kind")
_GPU = ("gpu", "host")


def gauge(name: str, text: str, names: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """Return a gauge: each value with those of its labels, which `names` names."""
    family = GaugeMetricFamily(name, text, labels=names)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def counter(name: str, text: str, names: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """Return a counter, as `gauge` does; its name goes without `_total`."""
    family = CounterMetricFamily(name, text, labels=names)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def of_queue(tally: Tally, queue: QueueState) -> Iterator[Metric]:
    """Yield how many jobs there are in each state, and how those wait that are to run."""
    by_plan: dict[tuple[str, str], int] = {}
    for depth in queue.classes:
        by_plan[depth.model, depth.plan] = by_plan.get((depth.model, depth.plan), 0) + depth.jobs
    yield gauge(
        "reelq_jobs", "Jobs kept, by status.", ["status"], (([status.value], n) for status, n in tally.jobs.items())
    )
    yield gauge("reelq_queue_jobs", "Jobs that could start now, by plan.", ["model", "plan"], by_plan.items())
    yield gauge("reelq_queue_deferred_jobs", "Queued jobs that are not to start yet.", (), [((), queue.deferred)])
    yield gauge(
        "reelq_queue_oldest_wait_seconds",
        "How long the job waits that was submitted first, of those that could start; 0 without any.",
        (),
        [((), queue.oldest_wait_seconds or 0.0)],
    )
    yield gauge(
        "reelq_queue_paused", "Whether an operator has paused the queue.", (), [((), queue.paused_at is not None)]
    )


def of_waits(tally: Tally) -> Iterator[Metric]:
    """Yield what the jobs of the last hour have waited for their first start, and taken in all."""
    recent = [((model,), one) for model, one in tally.recent.items()]
    yield gauge(
        "reelq_last_hour_jobs",
        "Jobs that have run and ended in the last hour.",
        ["model"],
        ((labels, one.jobs) for labels, one in recent),
    )
    yield gauge(
        "reelq_last_hour_wait_seconds",
        "Seconds that these jobs have waited for their first start, from when they could run, summed.",
        ["model"],
        ((labels, one.wait_seconds) for labels, one in recent),
    )
    yield gauge(
        "reelq_last_hour_turnaround_seconds",
        "Seconds that these jobs have taken to their end, from when they could run, summed.",
        ["model"],
        ((labels, one.turnaround_seconds) for labels, one in recent),
    )


def of_attempts(tally: Tally) -> Iterator[Metric]:
    """Yield how attempts have ended, what they used, and what was predicted of it."""
    runs = {(run.model, run.plan, run.gpu_kind): one for run, one in tally.runs.items()}
    ended = [((*run, outcome.value), end) for run, one in runs.items() for outcome, end in one.outcomes.items()]
    yield counter(
        "reelq_attempts",
        "Attempts that have ended, by outcome.",
        [*_RUN, "outcome"],
        ((labels, end.attempts) for labels, end in ended),
    )
    yield counter(
        "reelq_attempt_gpu_seconds",
        "Seconds from start to end of these attempts; those that share a GPU count each.",
        [*_RUN, "outcome"],
        ((labels, end.gpu_seconds) for labels, end in ended),
    )
    yield counter(
        "reelq_attempt_errors",
        "Attempts that ended with an error, by its code; out_of_memory is always listed.",
        [*_RUN, "code"],
        (
            ((*run, code), count)
            for run, one in runs.items()
            for code, count in ({OUT_OF_MEMORY: 0} | one.errors).items()
        ),
    )
    yield counter(
        "reelq_attempt_energy_joules",
        "What attempts have used, where the GPU tells.",
        _RUN,
        ((run, one.energy_joules) for run, one in runs.items()),
    )
    yield from _compared(
        "seconds",
        "Run time of attempts that succeeded from their first step on",
        ((run, one.seconds) for run, one in runs.items()),
    )
    yield from _compared(
        "vram_bytes",
        "Peak memory of attempts that succeeded",
        ((run, one.vram_bytes) for run, one in runs.items()),
    )


def _compared(what: str, text: str, values: Iterable[tuple[Sequence[str], Comparison]]) -> Iterator[Metric]:
    measured = SummaryMetricFamily(f"reelq_attempt_{what}", f"{text}, measured.", labels=_RUN)
    predicted = SummaryMetricFamily(f"reelq_attempt_predicted_{what}", f"{text}, predicted.", labels=_RUN)
    for run, both in values:
        measured.add_metric(run, both.count, both.measured)
        predicted.add_metric(run, both.count, both.predicted)
    yield measured
    yield predicted


def of_disks(disks: Iterable[Disk]) -> Iterator[Metric]:
    """Yield how full each disk is."""
    listed = list(disks)
    yield gauge(
        "reelq_disk_free_bytes",
        "Free bytes of each disk that a submission is written to.",
        ["disk"],
        (([disk.name], disk.free_bytes) for disk in listed),
    )
    yield gauge(
        "reelq_disk_required_bytes",
        "Free bytes below which submissions are refused.",
        ["disk"],
        (([disk.name], disk.required_bytes) for disk in listed),
    )


def of_gpus(tally: Tally, gpus: Sequence[Gpu]) -> Iterator[Metric]:
    """Yield how each GPU is. What was seen of one that is offline now, or cannot be read, is left out."""
    now = tally.at
    labelled = [((gpu.info.id, gpu.info.host), gpu) for gpu in gpus]
    yield gauge(
        "reelq_gpu_info",
        "1; its labels tell what the GPU is, and the model that its host serves.",
        [*_GPU, "name", "kind", "model"],
        (((*labels, gpu.info.name, gpu.info.kind, gpu.info.model), 1) for labels, gpu in labelled),
    )
    yield gauge(
        "reelq_gpu_state",
        "1 for the state that the GPU is in, 0 for the others.",
        [*_GPU, "state"],
        (((*labels, state.value), gpu.state is state) for labels, gpu in labelled for state in GpuState),
    )
    yield gauge(
        "reelq_gpu_last_hour_worn_workers",
        "Workers of the GPU that gave way to new ones in the last hour, because of a leak or a failure on the GPU.",
        _GPU,
        ((labels, tally.worn.get(gpu.info.id, 0)) for labels, gpu in labelled),
    )
    for name, text, look in _OF_A_GPU:
        found = ((labels, look(gpu, now)) for labels, gpu in labelled)
        yield gauge(
            f"reelq_gpu_{name}", text, _GPU, ((labels, float(value)) for labels, value in found if value is not None)
        )


def of_capacity(state: State | None) -> Iterator[Metric]:
    """Yield how many GPUs are wanted, and how many were there for that, once it is decided."""
    found = [] if state is None else [state]
    yield gauge(
        "reelq_capacity_wanted_gpus", "GPUs that the work that is due wants.", (), (((), one.wanted) for one in found)
    )
    yield gauge(
        "reelq_capacity_online_gpus", "GPUs in service when that was decided.", (), (((), one.online) for one in found)
    )


def _overrun(gpu: Gpu, now: float) -> float:
    return max(((now - lease.started_at) / lease.predicted_seconds for lease in gpu.leases), default=0.0)


def _seen(gpu: Gpu) -> GpuSample:
    return gpu.sample if gpu.online else _UNSEEN


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


_UNSEEN = GpuSample(None, None)
_OF_A_GPU: tuple[tuple[str, str, Callable[[Gpu, float], float | None]], ...] = (
    ("online", "Whether the GPU's supervisor has been heard of in the last seconds.", lambda gpu, _: gpu.online),
    ("memory_total_bytes", "Memory that the GPU has.", lambda gpu, _: gpu.info.total_bytes),
    ("memory_used_bytes", "Memory in use, by whomever.", lambda gpu, _: _seen(gpu).used_bytes),
    (
        "memory_reserved_bytes",
        "Memory promised by the ledger to worker processes and running jobs.",
        lambda gpu, _: gpu.reserved_bytes,
    ),
    ("memory_headroom_bytes", "Memory that is never promised.", lambda gpu, _: gpu.info.headroom_bytes),
    ("memory_foreign_bytes", "Memory in use by others.", lambda gpu, _: _seen(gpu).foreign_bytes),
    (
        "utilization_ratio",
        "Share of the last moments in which the GPU computed, from 0 to 1.",
        lambda gpu, _: _ratio(_seen(gpu).utilization_percent),
    ),
    ("temperature_celsius", "Temperature.", lambda gpu, _: _seen(gpu).temperature_celsius),
    ("power_watts", "Power that the board draws.", lambda gpu, _: _seen(gpu).power_watts),
    ("running_jobs", "Jobs that run on the GPU.", lambda gpu, _: len(gpu.leases)),
    ("workers", "Worker processes of the GPU.", lambda gpu, _: len(gpu.workers)),
    (
        "ready_workers",
        "Worker processes that would take a job.",
        lambda gpu, _: sum(worker.ready for worker in gpu.workers),
    ),
    ("overrun_ratio", "Of its running jobs, the most seconds a job runs by those predicted; 0 without any.", _overrun),
)
