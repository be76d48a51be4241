"""An attempt as spans: how long its job waited for it, and its stages, as its stopwatch has them.

All in the database's time: a stage began so long after the claim as this machine's steady clock says.
"""

from scheduler.records import Lease, Measured
from scheduler.states import Stage
from scheduler.tracing import Span, Value
from workers.attempt import Attempt, Ending
from workers.stopwatch import WAITING, Lap

_NAMES = {
    WAITING: "wait",  # prepared, and another job has the GPU
    Stage.LOADING: "load",  # the plan's weights
    Stage.ENCODING: "encode",
    Stage.DENOISING: "denoise",
    Stage.DECODING: "decode",
    Stage.MUXING: "mux",
}


def spans(attempt: Attempt, outcome: str, measured: Measured, ending: Ending | None) -> tuple[Span, Span]:
    """Return the wait that an attempt has ended, and the attempt itself, over when this is called."""
    lease, stopwatch = attempt.lease, attempt.stopwatch

    def at(moment: float) -> float:
        return lease.claimed_at + (moment - stopwatch.began)

    laps = [
        Span("prepare" if number == 0 else _NAMES[lap.stage], at(lap.began), at(lap.ended), _of_lap(lap))
        for number, lap in enumerate(stopwatch.laps)
    ]
    last, now = laps[-1].end, at(stopwatch.now())
    laps.append(Span("publish" if ending is None else "end", last, now))
    failed = ending.error if ending is not None else None
    attributes = _named(lease) | {
        "reelq.gpu_id": lease.gpu_id,
        "reelq.worker_id": lease.worker_id,
        "reelq.model": lease.model,
        "reelq.plan": lease.plan,
        "reelq.outcome": outcome,
        "reelq.predicted_vram_bytes": lease.predicted_vram_bytes,
        "reelq.vram_peak_bytes": measured.vram_peak_bytes,
        "reelq.run_seconds": measured.run_seconds,
        "reelq.steps": measured.steps,
        "reelq.sharing": measured.sharing,
    }
    wait_seconds = lease.claimed_at - lease.queued_at
    queue = Span("queue", lease.queued_at, lease.claimed_at, _named(lease) | {"reelq.wait_seconds": wait_seconds})
    error = None if failed is None else f"{failed.code}: {failed.message}"
    return queue, Span("attempt", lease.claimed_at, now, attributes, tuple(laps), error)


def _named(lease: Lease) -> dict[str, Value]:
    return {"reelq.job_id": lease.job_id, "reelq.attempt": lease.attempt, "reelq.lease": lease.fence}


def _of_lap(lap: Lap) -> dict[str, Value]:
    return {"reelq.steps": lap.steps} if lap.stage == Stage.DENOISING else {}
