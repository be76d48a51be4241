"""The targets, each with what was measured for it: met, missed, or not run, and why.

Those that name a GPU are for an H100: figures of the tiny model on a CPU are not held against them.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.rows import CHUNKED_AIM, RECIPE, TABLE

MET, MISSED, NOT_RUN = "met", "MISSED", "not run"
_NO_GPU = "no GPU on this machine"
_SAVED = 0.19
_SLOWER = 1.09
_PEERS = {"FP16": 2.0, "FP32": 7.3}


def targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every target."""
    found = [*_speed(results), *_overheads(results), *_chunked(results), *_capped(results)]
    return [*_computed(results), *found]


def _computed(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    what = f"peak of fp16-chunked under fp16 at {CHUNKED_AIM.shape.key}, computed: at least 19 % less"
    plans = (results.get("computed") or {}).get(CHUNKED_AIM.shape.key)
    if plans is None:
        yield _not_run(what, "left out")
        return
    saved = 1 - plans["fp16-chunked"]["peak_bytes"] / plans["fp16"]["peak_bytes"]
    yield _target(what, f"{saved:.0%} less", met=saved >= _SAVED)


def _speed(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    ours, service = _figures(results, "fp16", RECIPE.name), results.get("service")
    for name, wanted in _PEERS.items():
        what = (
            f"videos an hour of the service over the stock pipeline's in {name}, {RECIPE.name}: at least {wanted} times"
        )
        peer = (results.get("peer") or {}).get(name, {}).get(RECIPE.name)
        if service is None or peer is None or not results["on_gpu"]:
            yield _not_run(what, _why(results))
        else:
            ratio = service["videos_per_hour"] / peer["jobs_per_hour"]
            yield _target(what, f"{ratio:.2f} times", met=ratio >= wanted)
    what = f"UNet step, {RECIPE.name}, fp16: at least 50 % of the card's own matrix product rate"
    if ours is None or ours["matmul_share"] is None or not results["on_gpu"]:
        yield _not_run(what, _why(results))
    else:
        yield _target(what, f"{ours['matmul_share']:.0%}", met=ours["matmul_share"] >= 0.5)


def _overheads(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    service = results.get("service")
    for what, key in (
        (f"gap between back-to-back jobs, {RECIPE.name}: at most 1 % of run time", "gap_share"),
        (f"saving checkpoints, {RECIPE.name}: at most 1 % of run time", "checkpoint_share"),
    ):
        if service is None or not results["on_gpu"]:
            yield _not_run(what, _why(results))
        else:
            yield _target(what, f"{service[key]:.2%}", met=service[key] <= 0.01)


def _chunked(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    chunked, whole = (_figures(results, plan, CHUNKED_AIM.name) for plan in ("fp16-chunked", "fp16"))
    saves = f"peak of fp16-chunked under fp16, {CHUNKED_AIM.name}: at least 19 % less"
    costs = f"job time of fp16-chunked over fp16, {CHUNKED_AIM.name}: at most 9 % more"
    if chunked is None or whole is None or not results["on_gpu"]:
        yield _not_run(saves, _why(results))
        yield _not_run(costs, _why(results))
        return
    saved = 1 - chunked["peak_bytes"] / whole["peak_bytes"]
    ratio = chunked["job_seconds"] / whole["job_seconds"]
    yield _target(saves, f"{saved:.0%} less", met=saved >= _SAVED)
    yield _target(costs, f"{ratio - 1:+.0%}", met=ratio <= _SLOWER)


def _capped(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    caps = results.get("caps") or {}
    for row in TABLE:
        what = f"{row.name} runs under a cap of 24 GB with the plan that was predicted to fit"
        if "runs" not in caps.get(row.name, {}):
            yield _not_run(what, _why(results))
        else:
            yield _target(what, str(caps[row.name]["plan"]), met=caps[row.name]["runs"])


def _figures(results: dict[str, Any], plan: str, row: str) -> dict[str, Any] | None:
    figures: dict[str, Any] | None = (results.get("plans") or {}).get(plan, {}).get(row)
    return figures


def _why(results: dict[str, Any]) -> str:
    return "left out, or failed: see what was not run" if results["on_gpu"] else _NO_GPU


def _target(what: str, measured: str, *, met: bool) -> dict[str, Any]:
    return {"target": what, "measured": measured, "verdict": MET if met else MISSED}


def _not_run(what: str, why: str) -> dict[str, Any]:
    return {"target": what, "measured": why, "verdict": NOT_RUN}
