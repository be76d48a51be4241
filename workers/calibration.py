"""Measuring what jobs need on the device at hand: each plan on a small grid of shapes, a few steps of each.

What is measured is what a worker measures of its attempts (`hold`, `stopwatch`), so that both may be learned from:
bytes beside what the loaded process holds, seconds of a step, and seconds beside the steps.
"""

import gc
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from PIL import Image

from scheduler.catalog import Architecture
from scheduler.footprint import DataSheet, Footprint
from scheduler.params import Range
from scheduler.shape import Shape
from workers.meter import Meter
from workers.pipelines.request import GenerationRequest
from workers.tracebacks import cleared

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL, Run

STEPS = 4  # of each run; the first only warms up
_IMAGE_PIXELS = 512


class Grid(StrEnum):
    """How many shapes are measured."""

    QUICK = "quick"
    FULL = "full"


class Outcome(StrEnum):
    """What came of a case."""

    MEASURED = "measured"
    OUT_OF_MEMORY = "out of memory"
    TOO_LARGE = "skipped: would not fit"
    NO_PICTURE = "no picture"


@dataclass(frozen=True, slots=True)
class Case:
    """One plan and shape to measure, and what the data sheet says of `STEPS` steps of it, and of one."""

    plan: str
    shape: Shape
    predicted: Footprint
    step_seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run took. Bytes are None where the device does not tell.

    `vram_peak_bytes` is the whole process's, `working_peak_bytes` what of it came with the run.
    """

    vram_peak_bytes: int | None
    working_peak_bytes: int | None
    encode_seconds: float
    step_seconds: float
    decode_seconds: float

    @property
    def fixed_seconds(self) -> float:
        """The seconds beside the steps."""
        return self.encode_seconds + self.decode_seconds


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a case. After an out-of-memory failure, `bound_bytes` is the working set that was not enough."""

    case: Case
    outcome: Outcome
    figures: Figures | None = None
    bound_bytes: int | None = None


def shapes(architecture: Architecture, grid: Grid) -> list[Shape]:
    """Return the grid's shapes, the smallest work first: squares around the architecture's own defaults, guided."""
    limits, usual = architecture.limits, architecture.defaults
    sides, counts = {
        Grid.QUICK: ((0.5, 1.0), (0.5, 1.0)),
        Grid.FULL: ((0.5, 1.0, 1.5, 2.0), (0.5, 1.0, 2.0)),
    }[grid]
    found = {
        Shape(
            _within(limits.width, usual.width * side),
            _within(limits.height, usual.height * side),
            _within(limits.num_frames, usual.num_frames * count),
        )
        for side in sides
        for count in counts
    }
    return sorted(found, key=architecture.cost.step_flops)


def cases(sheet: DataSheet, plans: Sequence[str], among: Sequence[Shape]) -> list[Case]:
    """Return every plan with every shape, plan by plan."""
    return [
        Case(plan, shape, sheet.footprint(plan, shape, STEPS), sheet.step_seconds(plan, shape))
        for plan in plans
        for shape in among
    ]


class Calibrator:
    """Runs cases; `load` loads the model for the first plan that is tried.

    `room_bytes` is what may be tried at all; None, as on a GPU: whatever it is, running out of it is an error like
    others. On a CPU it could be the end of the process.
    """

    def __init__(self, load: Callable[[str], "I2VGenXL"], meter: Meter, *, room_bytes: int | None) -> None:
        self._load = load
        self._model: I2VGenXL | None = None
        self._meter = meter
        self._room_bytes = room_bytes
        self._plan: str | None = None
        self._resident_bytes = 0
        self._failed_bytes: int | None = None  # predicted of the smallest shape that ran out of memory under the plan

    def run(self, cases: Sequence[Case]) -> Iterator[Finding]:
        """Measure one case after another; raises what loading or running raises, but for memory that runs out."""
        for case in cases:
            is_first = case.plan != self._plan
            if is_first:
                self._plan, self._failed_bytes = case.plan, None
            if not self._fits(case):
                yield Finding(case, Outcome.TOO_LARGE)
            elif is_first or self._model is None:
                yield self._first(case)
            else:
                yield self._measured(self._model, case)

    def _fits(self, case: Case) -> bool:
        needed = case.predicted.working_bytes
        if self._failed_bytes is not None and needed >= self._failed_bytes:
            return False
        return self._room_bytes is None or case.predicted.vram_bytes <= self._room_bytes

    def _first(self, case: Case) -> Finding:
        """Load the plan, and run once what is slow the first time; then measure the plan's first case."""
        from workers.pipelines import runtime

        try:
            if self._model is None:
                self._model = self._load(case.plan)
            self._model.use(case.plan)
        except Exception as error:
            if not runtime.is_out_of_memory(error):
                raise
            return self._ran_out(case, error)
        self._free()
        self._resident_bytes = self._meter.resident_bytes()
        warm = self._try(self._model, case, sample(case.shape, steps=2, number=0))
        return self._measured(self._model, case) if warm.outcome is Outcome.MEASURED else warm

    def _measured(self, model: "I2VGenXL", case: Case) -> Finding:
        return self._try(model, case, sample(case.shape, steps=STEPS, number=1))

    def _try(self, model: "I2VGenXL", case: Case, request: GenerationRequest) -> Finding:
        from workers.pipelines import runtime

        self._free()
        try:
            return Finding(case, Outcome.MEASURED, measure(model, self._meter, self._resident_bytes, request))
        except ArithmeticError as error:  # weights that overflow in this precision: nothing to learn from
            cleared(error)
            return Finding(case, Outcome.NO_PICTURE)
        except Exception as error:
            if not runtime.is_out_of_memory(error):
                raise
            return self._ran_out(case, error)

    def _ran_out(self, case: Case, error: Exception) -> Finding:
        peak = self._meter.peak_bytes()
        cleared(error)
        self._free()
        self._failed_bytes = case.predicted.working_bytes
        bound = 0 if peak is None else max(0, peak - self._resident_bytes)
        return Finding(case, Outcome.OUT_OF_MEMORY, bound_bytes=bound or None)

    def _free(self) -> None:
        gc.collect()
        self._meter.trim()


def measure(model: "I2VGenXL", meter: Meter, resident_bytes: int, request: GenerationRequest) -> Figures:
    """Run `request` on a loaded model from the first to the last stage, without encoding the video.

    `resident_bytes` is what the process held when it had loaded the plan. The first step is not timed; the others are
    given to the device one ahead, as the engine does. Raises what the stages raise, ArithmeticError for no picture.
    """
    from workers.pipelines import runtime

    meter.reset_peak()
    run = model.prepare(request, picture(request))
    started = time.perf_counter()
    run.encode()
    runtime.synchronize(model.execution.components.device)
    encoded = time.perf_counter()
    model.step([run]).wait()
    warmed_up = time.perf_counter()
    _rest_of_the_steps(model, run)
    denoised = time.perf_counter()
    for _ in run.decode():
        pass
    decoded = time.perf_counter()
    peak = meter.peak_bytes()
    return Figures(
        vram_peak_bytes=peak,
        working_peak_bytes=None if peak is None else max(1, peak - resident_bytes),
        encode_seconds=encoded - started,
        step_seconds=(denoised - warmed_up) / (request.num_inference_steps - 1),
        decode_seconds=decoded - denoised,
    )


def sample(shape: Shape, *, steps: int, number: int) -> GenerationRequest:
    """Return a request of `shape`; each `number` has its own prompt and image, which no cache knows."""
    return GenerationRequest(
        prompt=f"a boat drifts past the pier, take {number} at {shape.key}",
        negative_prompt=None,
        width=shape.width,
        height=shape.height,
        num_frames=shape.num_frames,
        num_inference_steps=steps,
        guidance_scale=9.0 if shape.guided else 1.0,
        target_fps=8,
        seed=number,
        preset=shape.preset,
    )


def picture(request: GenerationRequest) -> Image.Image:
    """Return an image of the request's own."""
    tint = f"#{zlib.crc32(request.prompt.encode()) & 0xFFFFFF:06x}"
    gradient = Image.linear_gradient("L").resize((_IMAGE_PIXELS, _IMAGE_PIXELS)).convert("RGB")
    return Image.blend(gradient, Image.new("RGB", gradient.size, tint), 0.5)


def _rest_of_the_steps(model: "I2VGenXL", run: "Run") -> None:
    launched = model.step([run])
    while run.index < run.steps:
        following = model.step([run])
        launched.wait()
        launched = following
    launched.wait()


def _within(limit: Range, value: float) -> int:
    inside = int(min(max(value, limit.minimum), limit.maximum))
    return inside - inside % limit.multiple_of
