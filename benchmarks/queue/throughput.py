"""Jobs a second in and out, and how soon an idle queue starts one: each measure on an empty database of its own."""

from benchmarks.queue.children import Program
from benchmarks.queue.reelq import Reelq

_BATCH = 100
_DISPATCHES = 300


def measure(program: Program, *, jobs: int, dispatch_seconds: float, is_ours: bool) -> dict[str, float]:
    """Submit by one caller and by eight, run all of that with two workers, then submit to the idle queue."""
    result: dict[str, float] = {
        "submit_1_per_second": program.play("submit", jobs=jobs, callers=1)["jobs_per_second"],
        "submit_8_per_second": program.play("submit", jobs=4 * jobs, callers=8)["jobs_per_second"],
    }
    result["drain_per_second"] = program.drain()
    dispatch = program.dispatch(_DISPATCHES, dispatch_seconds)
    result |= {f"dispatch_{name}": value for name, value in dispatch.items()}
    if is_ours:
        batches = Reelq(program.url, program.folder).submit_batches(2 * jobs, _BATCH)
        result[f"submit_batches_of_{_BATCH}_per_second"] = batches
    return result
