"""The report of a run: Markdown tables, and the targets with what was measured for each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.tables import table

OURS, BARE, IMAGES = "reelq", "bare FastAPI", "bare FastAPI, images"
_POLLS = ("queued", "succeeded", "not modified")


def stored(folder: Path | None) -> dict[str, Any]:
    """Return the results that are there already, so that a run can measure some parts anew."""
    path = folder / "http.json" if folder is not None else None
    if path is None or not path.exists():
        return {"parts": {}}
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def store(folder: Path, results: dict[str, Any]) -> None:
    """Write http.json and http.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "http.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "http.md").write_text(markdown(results))


def targets(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each target that there are figures for: what it says, what was measured, and whether that meets it."""
    measured = {name: part["results"] for name, part in parts.items()}
    return [
        *_submit_targets(measured.get("submits", {})),
        *_poll_targets(measured.get("polls", {})),
        *_start_targets(measured.get("start", {})),
        *_waiting_targets("long polls", measured.get("waiting", {})),
        *_waiting_targets("streams", measured.get("streams", {})),
    ]


def _submit_targets(submits: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "form" in submits:
        ours, bare = _ours(submits["form"]), _best(submits["form"][BARE])
        wanted = max(660.0, 0.6 * bare)
        text = f"submits/s with a 100 KB image: at least {wanted:,.0f} (660, or 60 % of the bare application's)"
        yield _target(text, f"{ours:,.0f}, {ours / bare:.0%}", met=ours >= wanted)
        limit = _best(submits["form"][IMAGES])
        text = f"beside that, of the {limit:,.0f}/s of the bare application that writes images anew: at least 60 %"
        yield _target(text, f"{ours / limit:.0%}", met=ours >= 0.6 * limit)


def _poll_targets(polls: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind, figures in polls.items():
        share = _ours(figures) / _best(figures[BARE])
        text = f"polls/s of a job, {kind}: at least 70 % of the bare application's"
        yield _target(text, f"{share:.0%}", met=share >= 0.7)


def _start_targets(start: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind, names in start.items():
        for percent, limit in (("p50", 4), ("p99", 20)):
            took = names[OURS][f"{percent}_ms"]
            text = f"submit to running on an idle service, image of {kind}, {percent}: at most {limit} ms"
            yield _target(text, f"{took:.1f} ms", met=took <= limit)


def _waiting_targets(what: str, waiting: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, figures in waiting.items():
        text = f"{figures['clients']:,} clients with {what}, {name}: at most 100 MB"
        yield _target(text, f"{figures['memory_mb']:.0f} MB", met=figures["memory_mb"] <= 100)
        if "polls_ratio" in figures:
            text = f"polls/s of another client beside {figures['clients']:,} with {what}: at least 95 % of those alone"
            yield _target(text, f"{figures['polls_ratio']:.0%}", met=figures["polls_ratio"] >= 0.95)


def _target(text: str, measured: str, *, met: bool) -> dict[str, Any]:
    return {"target": text, "measured": measured, "met": met}


def _ours(names: dict[str, Any]) -> float:
    """The highest rate of this front end, whatever the number of its processes."""
    return max(_best(figures) for name, figures in names.items() if name.startswith(OURS))


def _best(by_connections: dict[str, dict[str, float]]) -> float:
    """The highest rate, whatever the number of connections it came with."""
    return max(figures["per_second"] for figures in by_connections.values())


def markdown(results: dict[str, Any]) -> str:
    """Return the whole report of what there is so far."""
    parts = results["parts"]
    runs = [
        f"- {name}: {part['measured_at']}, {part['repeats']} repeats; "
        + ", ".join(f"{key} {value}" for key, value in part["machine"].items())
        for name, part in parts.items()
    ]
    sections = {
        "submits": _submits,
        "polls": _polls,
        "start": _start,
        "waiting": _waiting,
        "streams": _streams,
    }
    texts = [
        "# The front door, measured",
        "Client and server share one machine. Medians of interleaved repeats; figures compare within one part only.",
        "\n".join(runs),
        "\n".join(f"- {name}: {notes}" for name, notes in results["contestants"].items()),
        *(section(parts[name]["results"]) for name, section in sections.items() if name in parts),
        "## Targets\n\n"
        + table(
            ["target", "measured", ""],
            ([one["target"], one["measured"], "met" if one["met"] else "MISSED"] for one in results["targets"]),
        ),
    ]
    return "\n\n".join(texts) + "\n"


def _submits(kinds: dict[str, Any]) -> str:
    return (
        "## Submits\n\nA JPEG of 640x480 and 100 KB with a prompt, as a multipart form and as JSON with a data URI. "
        "Answered once the job is durable; the bare application stores nothing, the peer's tasks do not outlive it.\n\n"
        + _rates(kinds)
    )


def _polls(kinds: dict[str, Any]) -> str:
    return (
        "## Polls\n\nOne of 100 queued jobs in turn, a job that has succeeded, and that job with `If-None-Match`. "
        "The peer's status has four fields, and no tag.\n\n" + _rates(kinds)
    )


def _rates(kinds: dict[str, Any]) -> str:
    head = [
        "call", "connections", "who", "per second", "of the bare", "p50 ms", "p99 ms", "server CPU ms each",
        "client CPU ms each",
    ]  # fmt: skip
    rows = [
        [
            kind,
            connections,
            name,
            f"{one['per_second']:,.0f}",
            f"{one['per_second'] / names[BARE][connections]['per_second']:.0%}",
            f"{one['p50_ms']:.2f}",
            f"{one['p99_ms']:.2f}",
            f"{one['server_ms_each']:.2f}",
            f"{one['client_ms_each']:.2f}",
        ]
        for kind, names in kinds.items()
        for connections in names[OURS]
        for name, one in ((name, by_connections[connections]) for name, by_connections in names.items())
    ]
    return table(head, rows)


def _start(kinds: dict[str, Any]) -> str:
    head = ["image", "who", "to running, p50 ms", "p99 ms", "to the answer, p50 ms", "p99 ms", "jobs"]
    keys = ("p50_ms", "p99_ms", "answer_p50_ms", "answer_p99_ms")
    rows = [
        [kind, name, *(f"{one[key]:.2f}" for key in keys), f"{one['samples']:.0f}"]
        for kind, names in kinds.items()
        for name, one in names.items()
    ]
    return (
        "## Submit to running\n\nOn an idle service, one job at a time: from the first byte of a submission until a "
        "worker, another process, has claimed the job (of the peer: until the task runs).\n\n" + table(head, rows)
    )


def _waiting(names: dict[str, Any]) -> str:
    return "## Clients that wait with long polls\n\n" + _fan_out(names)


def _streams(names: dict[str, Any]) -> str:
    return "## Clients that wait on streams of server-sent events\n\n" + _fan_out(names)


def _fan_out(names: dict[str, Any]) -> str:
    head = [
        "waiting for", "clients", "median ms", "last ms", "lost", "memory MB", "other polls/s without", "with", "ratio",
    ]  # fmt: skip
    rows = [
        [
            name,
            f"{one['clients']:,}",
            f"{one['median_ms']:.1f}",
            f"{one['last_ms']:.1f}",
            f"{one['lost']:.0f}",
            f"{one['memory_mb']:.1f}",
            *(
                [f"{one['polls_without']:,.0f}", f"{one['polls_with']:,.0f}", f"{one['polls_ratio']:.0%}"]
                if "polls_ratio" in one
                else ["", "", ""]
            ),
        ]
        for name, one in names.items()
    ]
    return (
        "From the call that changes the job, its commit included, to the answer or event at the median and at the last "
        "client. One job reports progress; of a job each, all are cancelled one right after the other. Memory: what "
        "the server's process has grown by while they wait. Other polls: 8 connections of another client.\n\n"
        + table(head, rows)
    )
