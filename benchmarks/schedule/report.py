"""The report of a run: a table for each load, and what the figures rest on."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.schedule.contestants import BOUND, STRICT
from benchmarks.tables import table

_HEAD = (
    "policy", "GPUs busy", "capacity used", "videos / GPU h", "wait mean", "of FIFO's", "p95", "of FIFO's", "max",
    "slowdown", "largest p95", "small users p95", "out of memory", "never ran",
)  # fmt: skip


def store(folder: Path, results: dict[str, Any]) -> None:
    """Write schedule.json and schedule.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schedule.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "schedule.md").write_text(markdown(results))


def markdown(results: dict[str, Any]) -> str:
    """Return the report."""
    parts = ["# Schedule", _about(results), _POLICIES, _FIGURES]
    for load, policies in results["loads"].items():
        fifo = policies[STRICT]["median"]
        rows = [_row(name, policy["median"], fifo) for name, policy in policies.items()]
        parts += [f"## Load {float(load):g}", table(_HEAD, rows)]
    return "\n\n".join(parts) + "\n"


def _about(results: Mapping[str, Any]) -> str:
    fleet = ", ".join(f"{count} x {kind}" for kind, count in Counter(results["fleet"]).items())
    mix = ", ".join(f"{share:.0%} {shape}" for shape, share in results["mix"].items())
    source = "are drawn (gaps with a variation of 10)" if results["arrivals"] == "drawn" else "are those of a recording"
    return (
        f"A composite, in virtual time: times and users {source}, stretched to the load; shapes ({mix}) and steps"
        " (25, 30 or 50) are drawn, and seconds and memory are what the scheduler's data sheets predict, exactly."
        f" {results['jobs']:,} jobs and, halfway, one more user who asks for a tenth as many at once; {fleet}."
        f" Medians over streams, of which there are {results['streams']}, from seed {results['seed']} on."
    )


_POLICIES = (
    "The rows called reelq are the scheduler itself on SQLite: its submits, claims, endings and changes of plan,"
    " with a clock that is set. By default its order is the weight (seconds / GiB * priority) with ageing, one"
    " worker a GPU: it starts long jobs first, which is what the formula asks for and what a short mean wait does"
    " not. With two workers a GPU, jobs share its memory and, in equal parts, its time: nothing is gained by sharing"
    " here, a wait is shorter because what starts runs slower (compare the slowdown), and reservations with backfill"
    " come into play. With equal shares every user has a share of one GPU. The last two policies are a few lines"
    " each, and know the fastest plan alone: first come, first served, where the head of the line blocks all others,"
    " and one that is blind to memory. That one fails in the first step where a job does not fit, goes to the end of"
    " the line, and is lost after three attempts; lost jobs count neither as waits nor as work, which flatters it."
    " Not in the model: errors of prediction, loading of weights, jobs that share a pass, failures. Of idle GPUs a"
    " drawn one asks first."
)
_FIGURES = (
    "Waits are from the arrival to the start of the run that made the video. The slowdown is the time to the video over"
    " that on the fastest idle GPU, a mean. The largest jobs are the shape that needs the most memory; small users"
    " have under 2% of the jobs, and count from the flood on. The bound is work over capacity: no policy that makes all"
    " videos can exceed it, and with arrivals in bursts none can reach it. Capacity used is work over capacity too,"
    " until the last video; a job on a GPU or under a plan that is not the cheapest for it uses less than it takes."
)


def _row(name: str, found: Mapping[str, float | None], fifo: Mapping[str, float | None]) -> list[str]:
    def seconds(figure: str) -> str:
        return _told(found.get(figure), "{:.0f} s")

    def ratio(figure: str) -> str:
        mine, other = found.get(figure), fifo[figure]
        return _told(mine / other if mine is not None and other else None, "{:.2f}")

    return [
        name,
        _told(found.get("busy"), "{:.0%}"),
        _told(found["capacity"], "{:.0%}"),
        _told(found["videos_per_gpu_hour"], "{:.1f}"),
        seconds("wait_mean"),
        ratio("wait_mean"),
        seconds("wait_p95"),
        ratio("wait_p95"),
        seconds("wait_max"),
        _told(found.get("slowdown"), "{:.1f}"),
        seconds("largest_wait_p95"),
        seconds("small_wait_p95"),
        *("-" if name == BOUND else _told(found[figure], "{:g}") for figure in ("out_of_memory", "never_ran")),
    ]


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
