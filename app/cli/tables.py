"""Jobs, estimates and accounts for people: readable at 80 columns."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from app.cli.console import clean, console, optional
from app.cli.formats import age, duration, energy, money, percent, size
from app.cli.wording import fraction, headline, note, outlook, place, quote, steps

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
        "video": f"{_video(params)}, {params['num_inference_steps']} steps, seed {params['seed']}{_choices(params)}",
        "plan": _plan(job["estimate"]),
        "gpu": job["gpu"],
        "checkpoint": optional(job.get("checkpoint_step"), lambda step: f"at step {step}", ""),
        "retry of": job.get("retry_of"),
        "deadline": job.get("deadline"),
        "webhook": job.get("webhook_url"),
        "metadata": [f"{key}={value}" for key, value in job.get("metadata", {}).items()],
        "notices": [f"{one['message']} ({one['code']}, {age(one['at'])} ago)" for one in job.get("notices", ())],
        "created": f"{job['created_at']} ({age(job['created_at'])} ago)",
        **_result(job),
    }
    show_rows(rows)


def show_estimate(estimate: Mapping[str, Any]) -> None:
    """Print an estimate: what the job would be submitted with, then each GPU and plan with whether it fits."""
    params = estimate["params"]
    need = estimate["estimate"]
    show_rows(
        {
            "model": estimate["model"],
            "video": f"{_video(params)}, {params['num_inference_steps']} steps{_choices(params)}",
            **(_need(need) if need else {"fits": f"nowhere: {estimate['reason']}"}),
            **quote(estimate),
        }
    )
    out = console(sys.stdout)
    for gpu in estimate["gpus"]:
        offline = "" if gpu["online"] else ", offline"
        out.print()
        out.print(clean(f"{gpu['gpu']}  {gpu['name']} ({gpu['state']}{offline})"), soft_wrap=True)
        width = max(len(plan["plan"]) for plan in gpu["plans"])
        for plan in gpu["plans"]:
            out.print(clean(f"  {plan['plan']:<{width}}  {_verdict(plan)}"), soft_wrap=True)


def show_account(account: Mapping[str, Any]) -> None:
    """Print a tenant, the key that was used, and what is used of each limit."""
    key, limits, usage = account["key"], account["limits"], account["usage"]
    show_rows(
        {
            "tenant": account["tenant"],
            "key": f"{key['id']} ({key['name']}): {', '.join(key['scopes'])}" if key else "none: the service is open",
            "queued": f"{usage['queued']} of {_limit(limits['max_queued'])}",
            "running": f"{usage['running']} of {_limit(limits['max_running'])}",
            "submits": f"{_limit(limits['submits_per_minute'])} a minute",
            "requests": f"{_limit(limits['requests_per_minute'])} a minute",
            "priority": f"up to {_limit(limits['max_priority'])}",
            "share": optional(limits["share"], lambda share: f"{share:g}", ""),
        }
    )


def show_rows(rows: Mapping[str, Any]) -> None:
    """Print names and values in two columns, a list in several lines; empty values are left out."""
    out = console(sys.stdout)
    shown = {name: value for name, value in rows.items() if value not in (None, "", [])}
    width = max(map(len, shown))
    for name, value in shown.items():
        for index, part in enumerate(value if isinstance(value, list) else [value]):
            out.print(f"{'' if index else name:<{width}}  {clean(part)}".rstrip(), soft_wrap=True)


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


def _choices(params: Mapping[str, Any]) -> str:
    """What the caller has allowed that changes pixels."""
    preset = params.get("preset", "standard")
    return ("" if preset == "standard" else f", preset {preset}") + (
        ", int8 allowed" if params.get("allow_int8") else ""
    )


def _plan(need: Mapping[str, Any]) -> str:
    reason = need.get("plan_reason")
    return f"{need['plan']} ({reason})" if reason else str(need["plan"])


def _verdict(plan: Mapping[str, Any]) -> str:
    if not plan["fits"]:
        return f"does not fit: {plan['reason']}"
    return f"fits: {size(plan['vram_bytes'])}, {duration(plan['seconds'])} ({plan['basis']})"


def _need(need: Mapping[str, Any]) -> dict[str, str]:
    return {
        "memory": size(need["vram_bytes"]),
        "time": duration(need["seconds"]),
        "weight": f"{need['weight']:.4g}",
        "plan": _plan(need),
    }


def _limit(value: float | None) -> str:
    return optional(value, lambda number: f"{number:g}", "any number")


def _progress(job: Mapping[str, Any]) -> str:
    if job["status"] == "running":
        return f"{headline(job)} {percent(fraction(job))}"
    if job["status"] == "queued":
        return optional(job["queue"], lambda queue: f"#{place(queue)}", "")
    return job["error"]["code"] if job["error"] else ""


def _result(job: Mapping[str, Any]) -> dict[str, Any]:
    video, measured = job["video"], job["measured"] or {}
    used = {
        "ran": optional(measured.get("run_seconds"), duration, ""),
        "peak": optional(measured.get("vram_peak_bytes"), size, ""),
        "energy": optional(measured.get("energy_joules"), energy, ""),
        "cost": optional(measured.get("cost"), money, ""),
    }
    if not video:
        return used
    expires = optional(video.get("expires_at"), str, "")
    return used | {
        "file": f"{size(video['bytes'])}, {video['duration_seconds']:.1f} s at {video['fps']} frames per second",
        "sha256": video["sha256"],
        "url": "" if video.get("expired") else video["url"],
        "expired" if video.get("expired") else "expires": expires,
    }
