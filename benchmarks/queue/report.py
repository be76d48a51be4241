"""The report of a run: Markdown tables, and the targets with what was measured for each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.queue.claims import BARE_COMMIT, HEAD_FITS
from benchmarks.tables import table

_OURS = {"SQLite": "reelq on SQLite", "PostgreSQL": "reelq on PostgreSQL"}
_LARGEST = "1000000"
_SMALLEST = "1000"


def store(folder: Path, results: dict[str, Any], text: str) -> None:
    """Write queue.json and queue.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "queue.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "queue.md").write_text(text)


def targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each target that the run has figures for: what it says, what was measured, and whether that meets it."""
    return [
        *_claim_targets(results.get("claims", {})),
        *_throughput_targets(results.get("throughput", {})),
        *(
            _at_most(f"a killed worker's job runs again, {name}", one["longest_seconds"], 20, "s")
            for name, one in results.get("crash", {}).items()
        ),
    ]


def _claim_targets(claims: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for engine, name in _OURS.items():
        largest, smallest = (claims.get(name, {}).get(size, {}) for size in (_LARGEST, _SMALLEST))
        for case, measured in largest.items():
            if case == BARE_COMMIT:
                continue
            yield _at_most(f"claim p99 at 1 M, {engine}, {case}", measured["p99_ms"], 5, "ms")
            if engine == "SQLite":
                yield _at_most(f"claim p50 at 1 M, {engine}, {case}", measured["p50_ms"], 0.3, "ms")
            if case in smallest:
                ratio = measured["p50_ms"] / smallest[case]["p50_ms"]
                yield _at_most(f"claim p50 at 1 M over that at 1 k, {engine}, {case}", ratio, 1.5, "times")


def _throughput_targets(throughput: dict[str, Any]) -> Iterator[dict[str, Any]]:
    peers = {name: one for name, one in throughput.items() if name not in _OURS.values()}
    for engine, name in _OURS.items():
        if name in throughput:
            yield _at_most(f"dispatch p50, {engine}", throughput[name]["dispatch_p50_ms"], 2, "ms")
    ours = throughput.get(_OURS["PostgreSQL"])
    for name, peer in peers.items():
        if ours and name.endswith("PostgreSQL"):
            ratio = ours["drain_per_second"] / peer["drain_per_second"]
            yield _at_least(f"jobs/s on PostgreSQL over those of {name}", ratio, 2, "times")
    for engine, name in _OURS.items():
        if name in throughput and peers:
            best = max(peers, key=lambda peer: float(peers[peer]["submit_8_per_second"]))
            ratio = throughput[name]["submit_8_per_second"] / peers[best]["submit_8_per_second"]
            yield _at_least(f"submits/s of 8 callers, {engine}, over the best peer's ({best})", ratio, 1, "times")


def _at_most(text: str, measured: float, limit: float, unit: str) -> dict[str, Any]:
    return _target(f"{text}: at most {limit} {unit}", measured, unit, met=measured <= limit)


def _at_least(text: str, measured: float, limit: float, unit: str) -> dict[str, Any]:
    return _target(f"{text}: at least {limit} {unit}", measured, unit, met=measured >= limit)


def _target(text: str, measured: float, unit: str, *, met: bool) -> dict[str, Any]:
    return {"target": text, "measured": f"{measured:.3g} {unit}", "met": met}


def markdown(results: dict[str, Any]) -> str:
    """Return the whole report."""
    machine, options = results["machine"], results["options"]
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    postgres = ", ".join(f"{name} {value}" for name, value in results["postgresql"].items())
    parts = [
        "# The queue, measured beside others",
        f"{results['measured_at']}; {facts}. PostgreSQL: {postgres}.",
        f"Medians of {options['repeats']} interleaved repeats; figures compare within one run only.",
    ]
    sections = {
        "throughput": _throughput,
        "claims": _claims,
        "snapshot": _snapshot,
        "crash": _crash,
        "targets": _targets,
    }
    parts += [section(results) for name, section in sections.items() if results.get(name)]
    return "\n\n".join(parts) + "\n"


def _throughput(results: dict[str, Any]) -> str:
    rows = (
        [
            name,
            f"{one['submit_1_per_second']:,.0f}",
            f"{one['submit_8_per_second']:,.0f}",
            f"{one['submit_batches_of_100_per_second']:,.0f}" if "submit_batches_of_100_per_second" in one else "",
            f"{one['drain_per_second']:,.0f}",
            f"{one['dispatch_p50_ms']:.1f} / {one['dispatch_p99_ms']:.1f}",
            results["contestants"][name],
        ]
        for name, one in results["throughput"].items()
    )
    head = [
        "queue", "submit/s, 1 caller", "8 callers", "batches of 100", "jobs/s, 2 workers", "dispatch p50 / p99 ms",
        "durable",
    ]  # fmt: skip
    return (
        "## Throughput\n\nA job does nothing and carries 1 KB. Jobs/s: two worker processes, one job at a time, each "
        "acknowledged after it ran. Dispatch: on an idle queue, from the call that submits, its commit included, to "
        "the job's start in another process.\n\n" + table(head, rows)
    )


def _claims(results: dict[str, Any]) -> str:
    rows = (
        [name, f"{int(size):,}", case, f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}"]
        for name, sizes in results["claims"].items()
        for size, cases in sizes.items()
        for case, one in cases.items()
    )
    return (
        "## Claims\n\nThe whole durable call, one caller. Peers know no memory: for them the head always fits.\n\n"
        + table(["queue", "queued", "case", "p50 ms", "p99 ms"], rows)
    )


def _snapshot(results: dict[str, Any]) -> str:
    rows = [
        [
            name,
            part,
            f"{one[part]['p50_ms']:.2f}",
            f"{one[part]['p99_ms']:.2f}",
            f"{one['claims']:,}",
            one["held_seconds"],
        ]
        for name, one in results["snapshot"].items()
        for part in ("first", "last")
    ]
    return (
        f"## Claims during an old snapshot\n\nA REPEATABLE READ transaction stays open throughout; {HEAD_FITS}; "
        "the first and the last tenth of the claims.\n\n"
        + table(["queue", "claims", "p50 ms", "p99 ms", "in all", "seconds held"], rows)
    )


def _crash(results: dict[str, Any]) -> str:
    rows = (
        [name, one["median_seconds"], one["longest_seconds"], one["kills"]] for name, one in results["crash"].items()
    )
    return "## Worker killed (SIGKILL), until its job runs again\n\n" + table(
        ["queue", "median s", "longest s", "kills"], rows
    )


def _targets(results: dict[str, Any]) -> str:
    rows = ([one["target"], one["measured"], "met" if one["met"] else "MISSED"] for one in results["targets"])
    return "## Targets\n\n" + table(["target", "measured", ""], rows)
