"""GPUs for people: a block of lines each, readable at 80 columns."""

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.cli.console import clean, console, optional
from app.formats import duration, percent, size

if TYPE_CHECKING:
    from rich.text import Text

_BAR_COLUMNS = 20
_STATE_STYLES = {"active": "green", "draining": "yellow", "drained": "yellow", "faulted": "red"}


def show_gpus(gpus: Iterable[Mapping[str, Any]]) -> None:
    """Print each GPU: state and reason, memory, load, workers, running jobs."""
    out = console(sys.stdout)
    for index, gpu in enumerate(gpus):
        if index:
            out.print()
        for line in _block(gpu):
            out.print(line, soft_wrap=True)


def _block(gpu: Mapping[str, Any]) -> "list[Text]":
    from rich.text import Text

    head = Text(clean(gpu["id"]), style="bold").append(f"  {clean(gpu['name'])}", style="not bold")
    state = Text("  state   ").append(clean(gpu["state"]), style=_STATE_STYLES.get(gpu["state"], ""))
    state.append("" if gpu["online"] else ", offline", style="red")
    state.append(f": {clean(gpu['reason'])}" if gpu["reason"] else "")
    lines = [f"plans   {', '.join(gpu['plans'])}"] if gpu.get("plans") else []
    lines += _drain(gpu["drain"]) if gpu.get("drain") else []
    lines += [_memory(gpu), *_others(gpu["memory"]), _load(gpu)]
    lines += [_worker(worker) for worker in gpu["workers"]] or ["worker  none"]
    lines += [_lease(lease) for lease in gpu["leases"]]
    lines += _reservation(gpu["reservation"]) if gpu.get("reservation") else []
    return [head, state, *(Text(f"  {clean(line)}") for line in lines)]


def show_preview(gpus: Iterable[Mapping[str, Any]]) -> None:
    """Print what a drain would do to each GPU, with a line for each of its jobs."""
    out = console(sys.stdout)
    requeued = False
    for gpu in gpus:
        jobs = gpu["preview"]["jobs"]
        empty = f"in about {duration(gpu['preview']['empty_in_seconds'])}" if jobs else "at once"
        out.print(f"{clean(gpu['id'])}  would be empty {empty}", soft_wrap=True)
        for job in jobs:
            ending, lost = clean(job["ending"]), duration(job["lost_seconds"]) if job["lost_seconds"] else "-"
            line = f"  {clean(job['job_id']):<30}  {ending:<8}  in {duration(job['in_seconds']):<7}  loses {lost}"
            out.print(line, soft_wrap=True)
            requeued = requeued or job["ending"] != "finishes"
    if requeued:
        out.print(
            "Released and killed jobs go back to the queue, and go on from a checkpoint; it costs them no attempt."
        )


def _drain(drain: Mapping[str, Any]) -> list[str]:
    parts = [str(drain["mode"])]
    if drain["deadline_at"]:
        parts.append(f"then {drain['on_deadline']} {_when(drain['deadline_at'])}")
    if drain["resume_at"]:
        parts.append(f"takes jobs again {_when(drain['resume_at'])}")
    return [f"drain   {', '.join(parts)}"]


def _reservation(reservation: Mapping[str, Any]) -> list[str]:
    start = _when(reservation["start_at"])
    return [f"kept    for {reservation['job_id']}, {size(reservation['reserved_bytes'])}, {start}"]


def _when(at: str) -> str:
    seconds = (datetime.fromisoformat(at) - datetime.now(UTC)).total_seconds()
    return f"in {duration(seconds)}" if seconds > 0 else "now"


def _memory(gpu: Mapping[str, Any]) -> str:
    memory = gpu["memory"]
    used, reserved, total = memory["used_bytes"], memory["reserved_bytes"], memory["total_bytes"]
    problem = f" ({memory['problem']})" if memory["problem"] else ""
    return (
        f"memory  {bar(used, reserved, total)}  {optional(used, size, 'unknown')} used, "
        f"{size(reserved)} reserved, of {size(total)}{problem}"
    )


def _others(memory: Mapping[str, Any]) -> list[str]:
    """What of the memory in use is not ours, on a line of its own: the one before is as long as a narrow terminal."""
    foreign = memory.get("foreign_bytes")  # unknown to front ends older than this command
    return [f"others  {size(foreign)} of what is used"] if foreign else []


def bar(used: int | None, reserved: int, total: int) -> str:
    """Return a bar of memory: `█` used, `▒` reserved beyond that, `░` free; `?` where the use is not known."""
    if used is None or total <= 0:
        return "?" * _BAR_COLUMNS
    taken = min(_BAR_COLUMNS, round(used / total * _BAR_COLUMNS))
    promised = min(_BAR_COLUMNS, max(taken, round(reserved / total * _BAR_COLUMNS)))
    return "█" * taken + "▒" * (promised - taken) + "░" * (_BAR_COLUMNS - promised)


def _load(gpu: Mapping[str, Any]) -> str:
    utilization = optional(gpu["utilization_percent"], lambda value: f"{value:.0f}%")
    temperature = optional(gpu["temperature_celsius"], lambda value: f"{value:.0f} °C")
    power = optional(gpu.get("power_watts"), lambda value: f", {value:.0f} W", "")
    return f"load    {utilization}, {temperature}{power}"


def _worker(worker: Mapping[str, Any]) -> str:
    state = (worker.get("plan") or "weights unloaded") if worker["ready"] else "loading"
    return f"worker  pid {worker['pid']}, {worker['model']}, {state}"


def _lease(lease: Mapping[str, Any]) -> str:
    progress = lease["progress"]
    return (
        f"job     {lease['job_id']} {lease['stage']} {percent(progress['fraction'])} "
        f"step {progress['step']}/{progress['steps']}{', asked to stop' if lease.get('release_requested') else ''}"
    )
