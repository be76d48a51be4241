"""Jobs, estimates and accounts for people: readable at 80 columns."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from app.cli.console import UNLIMITED_COLUMNS, clean, console, optional
from app.cli.wording import fraction, headline, note, outlook, place, quote, steps
from app.formats import age, duration, energy, money, percent, size

_COLUMNS = ("id", "tenant", "status", "progress", "model", "video", "age", "prompt")
_TELLING = ("tenant", "model")  # shown where there is more than one
_SHORTEST = {"prompt": 8, "model": 8, "tenant": 8, "progress": 13}  # what is cut off, in this order; no ids, no sizes
_SPARED = ("prompt", "video")  # left out, in this order, where there is no room even so


def show_jobs(jobs: Iterable[Mapping[str, Any]]) -> None:
    """Print one line for each job."""
    from rich.cells import cell_len

    rows = [{name: clean(cell) for name, cell in _cells(job).items()} for job in jobs]
    names = [name for name in _COLUMNS if name not in _TELLING or len({row[name] for row in rows}) > 1]
    columns = {name: [name, *(row[name] for row in rows)] for name in names}
    out = console(sys.stdout)
    if out.width < UNLIMITED_COLUMNS:
        _shorten(columns, out.width)
    widths = {name: max(map(cell_len, cells)) for name, cells in columns.items()}
    for index in range(len(rows) + 1):
        cells = [_padded(cells[index], widths[name], name) for name, cells in columns.items()]
        out.print(" ".join(cells).rstrip(), style=None if index else "bold", soft_wrap=True)


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
        "window": job.get("window"),
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
            "share": optional(limits["share"], lambda share: f"{share:g}", "none: its jobs stand in line as they came"),
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


def _cells(job: Mapping[str, Any]) -> dict[str, str]:
    params = job["params"]
    return {
        "id": job["id"],
        "tenant": job.get("tenant", ""),  # unknown to front ends older than this command
        "status": job["status"],
        "progress": _progress(job),
        "model": job["model"],
        "video": f"{params['num_frames']} {params['width']}x{params['height']}",
        "age": age(job["created_at"]),
        "prompt": job["prompt"],
    }


def _shorten(columns: dict[str, list[str]], width: int) -> None:
    """Cut cells off, and leave columns out, until a line is at most `width` wide as far as that can be."""
    from rich.cells import cell_len, set_cell_size

    for spared in (None, *_SPARED):
        columns.pop(spared or "", None)
        widths = {name: max(map(cell_len, cells)) for name, cells in columns.items()}
        least = {name: min(_SHORTEST.get(name, widths[name]), widths[name]) for name in columns}
        if sum(least.values()) + len(columns) - 1 <= width:
            break
    for name in (name for name in _SHORTEST if name in columns):
        room = max(least[name], width - (len(columns) - 1) - sum(widths.values()) + widths[name])
        columns[name] = [
            cell if cell_len(cell) <= room else f"{set_cell_size(cell, room - 1)}…" for cell in columns[name]
        ]
        widths[name] = min(widths[name], room)


def _padded(cell: str, width: int, name: str) -> str:
    from rich.cells import cell_len

    spaces = " " * (width - cell_len(cell))
    return spaces + cell if name == "age" else cell + spaces


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
        return optional(job["queue"], _turn, "")
    return job["error"]["code"] if job["error"] else ""


def _turn(queue: Mapping[str, Any]) -> str:
    """The place in the line, or for a job that is put off, in what time it may start."""
    if queue.get("wait", {}).get("code") in ("not_before", "window") and queue["eta_seconds"] is not None:
        return f"in {duration(queue['eta_seconds'])}"
    return f"#{place(queue)}"


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
