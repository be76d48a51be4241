"""What keeps a job that may run from the workers that could run it: jobs ahead, reservations, memory. Pure, no I/O."""

from collections.abc import Sequence

from scheduler.line import Standing, Waiting
from scheduler.placement import gib
from scheduler.records import Reservation
from scheduler.seats import Seat, reservation_for
from scheduler.waits import Blocker, WaitReason


def held_back(job: Waiting, seats: Sequence[Seat], standing: Standing, now: float) -> WaitReason:
    """Return what a job waits for that nothing else keeps from its seats, of which it has at least one."""
    free = [seat for seat in seats if seat.ready and seat.kept_for is None]
    kept = reservation_for(job, seats)
    if free:
        return WaitReason(
            Blocker.DISPATCHING,
            f"starts after {_ahead(standing)}" if standing.ahead and kept is None else "next to start",
            "a worker has taken the jobs ahead and then this one",
            {"ahead": standing.ahead, "gpus": _ids(free)},
        )
    if kept is not None:
        return _reservation(kept, seats, now)
    broken = next((seat for seat in seats if seat.ready), None)
    if broken is not None and broken.kept_for is not None:
        return _reserved(broken, broken.kept_for, now)
    idle = [seat for seat in seats if seat.idle]
    if idle:
        return _shortage(max(idle, key=lambda seat: seat.free_bytes))
    leases = {lease.job_id for seat in seats for lease in seat.gpu.leases}
    return WaitReason(
        Blocker.BUSY,
        f"all GPUs that fit are busy with {len(leases)} running, {_ahead(standing)}",
        "enough of the jobs that run and are ahead have ended",
        {"running": len(leases), "ahead": standing.ahead, "gpus": _ids(seats)},
    )


def _reservation(kept: Reservation, seats: Sequence[Seat], now: float) -> WaitReason:
    gpu = next(seat.gpu.info.id for seat in seats if seat.gpu.reservation is kept)
    return WaitReason(
        Blocker.RESERVATION,
        f"GPU {gpu} is reserved for it, with {gib(kept.reserved_bytes)} from about {_in(kept.start_at - now)}",
        "the jobs that run there have freed that memory",
        {"gpu": gpu, "needed_bytes": kept.reserved_bytes, "start_at": kept.start_at},
    )


def _reserved(seat: Seat, kept: Reservation, now: float) -> WaitReason:
    return WaitReason(
        Blocker.RESERVED,
        f"GPU {seat.gpu.info.id} is kept for the older job {kept.job_id}, which needs {gib(kept.reserved_bytes)} "
        f"from about {_in(kept.start_at - now)}",
        "that job has started, or is gone",
        {
            "gpu": seat.gpu.info.id,
            "job_id": kept.job_id,
            "start_at": kept.start_at,
            "reserved_bytes": kept.reserved_bytes,
            "needed_bytes": seat.need_bytes,
            "free_bytes": seat.free_bytes,
        },
    )


def _shortage(seat: Seat) -> WaitReason:
    gpu, free = seat.gpu.info.id, max(0, seat.free_bytes)
    numbers = {"gpu": gpu, "needed_bytes": seat.need_bytes, "free_bytes": free}
    told = f"needs {gib(seat.need_bytes)} beside the resident model, {gib(free)} are free now on GPU {gpu}"
    if seat.own_free_bytes >= seat.need_bytes:
        foreign = seat.own_free_bytes - seat.free_bytes
        return WaitReason(
            Blocker.FOREIGN_MEMORY,
            f"{told}: {gib(foreign)} are held by something that is none of our jobs",
            "whatever holds that memory gives it back",
            numbers | {"foreign_bytes": foreign},
        )
    held = seat.gpu.reserved_bytes - sum(worker.resident_bytes for worker in seat.gpu.workers)
    return WaitReason(
        Blocker.NO_FREE_MEMORY,
        f"{told}: {gib(held)} are promised to {len(seat.gpu.leases)} running",
        "enough of the jobs that run there have ended",
        numbers | {"promised_bytes": held, "running": len(seat.gpu.leases)},
    )


def _ahead(standing: Standing) -> str:
    return f"{'' if standing.exact else 'about '}{standing.ahead} queued ahead"


def _in(seconds: float) -> str:
    return f"{seconds:.0f} s from now" if seconds >= 1 else "now"


def _ids(seats: Sequence[Seat]) -> list[str]:
    return list(dict.fromkeys(seat.gpu.info.id for seat in seats))
