"""The report of a run: a Markdown table, and whether each view keeps its limit."""

import json
from pathlib import Path
from typing import Any

from benchmarks.tables import table

LIMIT_SECONDS = 1.0
_HEAD = ("view", "answer, first", "answer", "page", "loaded in a browser", "of the limit")


def store(folder: Path, results: dict[str, Any]) -> None:
    """Write pages.json and pages.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pages.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "pages.md").write_text(markdown(results))


def markdown(results: dict[str, Any]) -> str:
    """Return the report; a view's share of the limit is of its loading, or of its answer where no browser looked."""
    rows = []
    for name, view in results["views"].items():
        loaded = view["load_seconds"]
        shown = view["seconds"] if loaded is None else loaded
        rows.append(
            (
                name,
                _milliseconds(view["first_seconds"]),
                _milliseconds(view["seconds"]),
                f"{view['bytes'] / 1024:.0f} KiB",
                _milliseconds(loaded),
                f"{shown / LIMIT_SECONDS:.0%}",
            )
        )
    nothing = results["nothing_load_seconds"]
    machine = results["machine"]
    about = (
        f"{results['jobs']:,} ended jobs on {results['gpus']} GPUs over {results['days']} days, SQLite; medians of"
        f" {results['repeats']}. {machine['cores']} cores ({machine['cpu']}), server and browser on the same; load"
        f" average at the end {machine['load_average']}. The limit of a view is {LIMIT_SECONDS:g} s. The first"
        " answer of a report is reckoned anew; later ones are used for 50 times as long as that took."
    )
    lines = [
        "# Pages",
        "",
        about,
        "",
        table(_HEAD, rows),
        "",
        f"An answer with nothing in it is loaded in {_milliseconds(nothing)}." if nothing else "No browser looked.",
    ]
    return "\n".join(lines) + "\n"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"
