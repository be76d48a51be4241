"""Jobs, GPUs and estimates for people: readable at 80 columns."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from app.cli.console import clean, console, optional
from app.cli.formats import age, duration, percent, size
from app.cli.wording import fraction, headline, note, outlook, place, steps

_COLUMNS = ("id", "status", "progress", "model", "video", "age")
_SHORTEST = {"model": 8, "progress": 13}  # what may be cut off, in this order; a part of an id or a size is of no use


def show_jobs(jobs: Iterable[Mapping[str, Any]]) -> None:
    """Print one line for each job."""
    from rich.table import Table

    out = console(sys.stdout)
    rows = [[clean(cell) for cell in _cells(job)] for job in jobs]
    _shorten(rows, out.width)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, no_wrap=True, justify="right" if name == "age" else "left")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def show_job(job: Mapping[str, Any]) -> None:
    """Print all that matters of one job, a line for each thing."""
    params = job["params"]
    running = job["status"] == "running"
    rows = {
        "id": job["id"],
        "status": f"{job['status']}, {headline(job)} {percent(fraction(job))} {steps(job)}"
        if running
        else job["status"],
        "note": note(job),
        **outlook(job),
        "model": job["model"],
        "prompt": job["prompt"],
        "video": f"{_video(params)}, {params['num_inference_steps']} steps, seed {params['seed']}",
        "gpu": job["gpu"],
        "created": f"{job['created_at']} ({age(job['created_at'])} ago)",
        **_result(job),
    }
    show_rows(rows)


def show_estimate(estimate: Mapping[str, Any]) -> None:
    """Print an estimate: what the job needs where it runs fastest, then each GPU with whether it fits."""
    params = estimate["params"]
    need = estimate["estimate"]
    show_rows(
        {
            "model": estimate["model"],
            "video": f"{_video(params)}, {params['num_inference_steps']} steps",
            **(_need(need) if need else {"fits": "no GPU could ever run it"}),
        }
    )
    out = console(sys.stdout)
    out.print()
    for gpu in estimate["gpus"]:
        offline = "" if gpu["online"] else ", offline"
        verdict = f"fits, {duration(gpu['estimate']['seconds'])}" if gpu["fits"] else f"does not fit: {gpu['reason']}"
        out.print(clean(f"{gpu['gpu']}  {gpu['name']} ({gpu['state']}{offline}): {verdict}"), soft_wrap=True)


def show_rows(rows: Mapping[str, Any]) -> None:
    """Print names and values in two columns; empty values are left out."""
    out = console(sys.stdout)
    width = max(map(len, rows))
    for name, value in rows.items():
        if value not in (None, ""):
            out.print(f"{name:<{width}}  {clean(value)}".rstrip(), soft_wrap=True)


def _cells(job: Mapping[str, Any]) -> list[str]:
    params = job["params"]
    video = f"{params['num_frames']} {params['width']}x{params['height']}"
    return [job["id"], job["status"], _progress(job), job["model"], video, age(job["created_at"])]


def _shorten(rows: list[list[str]], columns: int) -> None:
    for column, shortest in _SHORTEST.items():
        index = _COLUMNS.index(column)
        widths = [max(map(len, cells)) for cells in zip(_COLUMNS, *rows, strict=True)]
        room = max(shortest, columns - sum(widths) + widths[index] - (len(_COLUMNS) - 1))
        for row in rows:
            row[index] = row[index] if len(row[index]) <= room else f"{row[index][: room - 1]}…"


def _video(params: Mapping[str, Any]) -> str:
    return f"{params['num_frames']} frames {params['width']}x{params['height']}"


def _need(need: Mapping[str, Any]) -> dict[str, str]:
    return {
        "memory": size(need["vram_bytes"]),
        "time": duration(need["seconds"]),
        "weight": f"{need['weight']:.4g}",
        "plan": need["plan"],
    }


def _progress(job: Mapping[str, Any]) -> str:
    if job["status"] == "running":
        return f"{headline(job)} {percent(fraction(job))}"
    if job["status"] == "queued":
        return optional(job["queue"], lambda queue: f"#{place(queue)}", "")
    return job["error"]["code"] if job["error"] else ""


def _result(job: Mapping[str, Any]) -> dict[str, Any]:
    video, measured = job["video"], job["measured"] or {}
    if not video:
        return {}
    return {
        "ran": optional(measured.get("run_seconds"), duration, ""),
        "peak": optional(measured.get("vram_peak_bytes"), size, ""),
        "file": f"{size(video['bytes'])}, {video['duration_seconds']:.1f} s at {video['fps']} frames per second",
        "sha256": video["sha256"],
        "url": video["url"],
    }
