"""A GPU's memory as a bar: who holds or was promised how much of it."""

from dataclasses import dataclass

from scheduler.records import Gpu


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the bar, in percent of it; `kind` is model, job, foreign, headroom or free."""

    kind: str
    words: str
    number_of_bytes: int
    start: float
    width: float


def segments(gpu: Gpu) -> list[Segment]:
    """Return the bar from left to right: models, running jobs, others' memory, what is free, and the headroom.

    It is the ledger's reckoning: what is promised counts, whether it is in use yet or not. Where that is more than
    there is (others took what was promised), the bar stands for all of it.
    """
    parts = [("model", worker.model or "a process", worker.resident_bytes) for worker in gpu.workers]
    parts += [("job", f"jobs {', '.join(ids)}", reserved) for ids, reserved in _lanes(gpu)]
    if gpu.sample.foreign_bytes:
        parts.append(("foreign", "other processes", gpu.sample.foreign_bytes))
    taken = sum(size for _, _, size in parts)
    free = max(0, gpu.info.total_bytes - gpu.info.headroom_bytes - taken)
    headroom = max(0, min(gpu.info.headroom_bytes, gpu.info.total_bytes - taken))
    parts += [("free", "free", free), ("headroom", "headroom, never given to a job", headroom)]
    whole = max(gpu.info.total_bytes, taken)
    made, start = [], 0.0
    for kind, words, size in parts:
        if size > 0:
            width = 100 * size / whole
            made.append(Segment(kind, words, size, round(start, 2), round(width, 2)))
            start += width
    return made


def _lanes(gpu: Gpu) -> list[tuple[list[str], int]]:
    """The jobs of each lane, which count once, as the largest of them."""
    lanes: dict[tuple[str, int], tuple[list[str], int]] = {}
    for lease in gpu.leases:
        ids, largest = lanes.get((lease.worker_id, lease.lane), ([], 0))
        lanes[lease.worker_id, lease.lane] = ([*ids, lease.job_id], max(largest, lease.reserved_bytes))
    return list(lanes.values())
