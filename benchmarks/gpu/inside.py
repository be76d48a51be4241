"""The model in this process, plan by plan: peaks, seconds of steps and stages, and what sharing a pass gains."""

from __future__ import annotations

import gc
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from scheduler.shape import Shape
from workers.calibration import STEPS, Figures, measure, picture, sample
from workers.pipelines import runtime
from workers.pipelines.i2vgen_xl import I2VGenXL
from workers.tracebacks import cleared

if TYPE_CHECKING:
    from benchmarks.gpu.rows import Row
    from benchmarks.gpu.subject import Subject

_COMPANY = (1, 2, 4)  # jobs in one pass


class Inside:
    """One model, loaded for `plan`, with its meter."""

    def __init__(self, subject: Subject, plan: str) -> None:
        self.subject = subject
        self.meter = subject.meter
        self.model = I2VGenXL.load(subject.folder, device=subject.device, plan=plan)
        self._resident_bytes: dict[str, int] = {}

    def use(self, plan: str) -> None:
        """Load `plan`, and run the smallest job once, so that nothing measured is slow because it is the first."""
        self.model.use(plan)
        self.free()
        if plan not in self._resident_bytes:
            self._resident_bytes[plan] = self.meter.resident_bytes()
            side = 64 if self.subject.small else 256
            measure(self.model, self.meter, 0, sample(Shape(side, side, 2), steps=2, number=0))

    def free(self) -> None:
        """Give back what is not used."""
        gc.collect()
        self.meter.trim()

    def close(self) -> None:
        """Give the weights back."""
        self.model.unload()
        self.free()

    def row(self, plan: str, row: Row, repeats: int, matmul_rate: float | None) -> dict[str, Any]:
        """Measure jobs of `row` under `plan`, a few steps each; medians of the seconds, the highest of the peaks."""
        self.use(plan)
        shape, sheet = row.shape, self.subject.sheet
        predicted = sheet.footprint(plan, shape, row.steps)
        runs = []
        for number in range(1, repeats + 1):
            self.free()
            runs.append(self.run(plan, row, number))
        step = median(run.step_seconds for run in runs)
        fixed = median(run.fixed_seconds for run in runs)
        memory = runtime.device_memory(self.subject.device)
        rate = sheet.step_flops(shape) / step
        figures = {
            "shape": shape.key,
            "resident_bytes": self._resident_bytes[plan],
            "peak_bytes": max(run.vram_peak_bytes or 0 for run in runs),
            "predicted_peak_bytes": predicted.vram_bytes,
            "live_bytes": None if memory is None else memory.peak_allocated_bytes,
            "reserved_bytes": None if memory is None else memory.peak_reserved_bytes,
            "step_seconds": step,
            "predicted_step_seconds": sheet.step_seconds(plan, shape),
            "encode_seconds": median(run.encode_seconds for run in runs),
            "decode_seconds": median(run.decode_seconds for run in runs),
            "matmul_share": None if matmul_rate is None else rate / matmul_rate,
            "fixed_seconds": fixed,
        }
        return with_steps(figures, row.steps)

    def run(self, plan: str, row: Row, number: int, steps: int = STEPS) -> Figures:
        """Run one job of `row` with so many steps."""
        return measure(
            self.model, self.meter, self._resident_bytes[plan], sample(row.shape, steps=steps, number=number)
        )

    def batches(self, plan: str, row: Row, repeats: int) -> dict[str, Any]:
        """Measure passes that several jobs of `row` share: steps a second, over those of one job alone."""
        self.use(plan)
        results: dict[str, Any] = {}
        for jobs in _COMPANY:
            self.free()
            self.meter.reset_peak()
            try:
                seconds = median(self._pass_seconds(row, jobs) for _ in range(repeats))
            except Exception as error:
                if not runtime.is_out_of_memory(error):
                    raise
                cleared(error)
                self.free()
                break
            results[str(jobs)] = {
                "pass_seconds": seconds,
                "peak_bytes": self.meter.peak_bytes(),
                "gain": jobs * results.get("1", {"pass_seconds": seconds})["pass_seconds"] / seconds,
            }
        return results

    def _pass_seconds(self, row: Row, jobs: int) -> float:
        runs = []
        for number in range(jobs):
            request = sample(row.shape, steps=STEPS, number=number)
            run = self.model.prepare(request, picture(request))
            run.encode()
            runs.append(run)
        self.model.step(runs).wait()
        started = time.perf_counter()
        for _ in range(STEPS - 1):
            launched = self.model.step(runs)
        launched.wait()
        return (time.perf_counter() - started) / (STEPS - 1)


def with_steps(figures: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the figures of a shape with those of a whole job of so many steps."""
    job_seconds = figures["fixed_seconds"] + steps * figures["step_seconds"]
    return figures | {"job_seconds": job_seconds, "jobs_per_hour": 3600 / job_seconds}
