"""Under a cap: does the plan that is predicted to fit run in 24 GB, and how little does each row need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.plans import PLANS
from workers.pipelines import runtime
from workers.tracebacks import cleared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.gpu.inside import Inside
    from benchmarks.gpu.rows import Row

CAP_BYTES = 24_000_000_000
_EXACT_BYTES = 128 * 2**20  # how closely the smallest cap is found
_STEPS = 2


class Capped:
    """Runs rows while torch's allocator may take so much and no more; the context of the process counts too."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._device = inside.subject.device
        memory = runtime.device_memory(self._device)
        self._beside_bytes = inside.meter.held_bytes() - (memory.reserved_bytes if memory else 0)

    def as_predicted(self, row: Row, plans: Sequence[str]) -> dict[str, Any]:
        """Run `row` under 24 GB with the fastest of `plans` that is predicted to fit."""
        sheet = self._inside.subject.sheet
        fitting = [plan for plan in plans if sheet.footprint(plan, row.shape, row.steps).vram_bytes <= CAP_BYTES]
        if not fitting:
            return {"plan": None, "runs": False, "why": "no plan is predicted to fit"}
        plan = fitting[0]
        return {
            "plan": plan,
            "predicted_bytes": sheet.footprint(plan, row.shape, row.steps).vram_bytes,
            "runs": self._runs(plan, row, CAP_BYTES),
        }

    def smallest(self, row: Row, plan: str) -> dict[str, Any]:
        """Find the smallest cap under which `row` runs with `plan`, to 128 MiB, by halving."""
        self._inside.use(plan)
        self._inside.free()
        self._inside.run(plan, row, 1, _STEPS)
        memory = runtime.device_memory(self._device)
        if memory is None:
            raise ValueError("a CPU's allocator knows no cap")
        # No cap below what is alive at once can do; the allocator's own peak surely does.
        below, enough = memory.peak_allocated_bytes, memory.peak_reserved_bytes
        tries = 0
        while enough - below > _EXACT_BYTES:
            tries += 1
            middle = (below + enough) // 2
            if self._runs(plan, row, middle + self._beside_bytes):
                enough = middle
            else:
                below = middle
        return {"plan": plan, "cap_bytes": enough + self._beside_bytes, "tries": tries}

    def _runs(self, plan: str, row: Row, cap_bytes: int) -> bool:
        self._inside.use(plan)
        self._inside.free()
        runtime.cap_memory(self._device, cap_bytes - self._beside_bytes)
        try:
            self._inside.run(plan, row, 1, _STEPS)
        except Exception as error:
            if not runtime.is_out_of_memory(error):
                raise
            cleared(error)
            return False
        finally:
            runtime.cap_memory(self._device, self._inside.subject.info.total_bytes)
        return True


def leanest(plans: Sequence[str]) -> str | None:
    """Return the plan among `plans` that needs least without changing pixels; None where there is none."""
    same_pixels: Iterator[str] = (plan for plan in reversed(plans) if not PLANS[plan].opt_in)
    return next(same_pixels, None)
