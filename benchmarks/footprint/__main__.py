"""How well `scheduler.learning` predicts seconds, on the times of another image-to-video model.

`python -m benchmarks.footprint wan-a100.csv` takes the profile of a Wan pipeline on A100s (`Azure/realtimevideogen`,
`profiles/wan-a100.csv`, MIT), and prints the error of predictions for what was held out: a number of steps, known from
the others of the same shape; and a whole shape, known from other shapes by its FLOPs alone.

On 703 warm runs of six lengths at 720x544, on one to eight GPUs: steps held out, median error 0.13 %, 90th percentile
0.91 %; shapes held out, 2.2 % and 12.6 %. The worst are the shortest videos on many GPUs, carried from longer ones:
there the GPUs' talk is most of a step. The trace has no memory column, and nothing here is about memory.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median, quantiles

from scheduler.learning import Learned, Observation
from scheduler.shape import Shape
from scheduler.states import Source

_PLAN = "fp16"  # the trace knows one way to run; any name does
_LAYERS, _WIDTH, _PARAMETERS = 40, 5120, 14e9  # Wan's image-to-video model


@dataclass(frozen=True)
class Run:
    """One run of the trace on `gpus` GPUs: its denoising and all of it, in seconds."""

    gpus: int
    shape: Shape
    steps: int
    denoise_seconds: float
    seconds: float


class Wan:
    """What is known of the model without measuring: its work. The rate cancels out."""

    def resident_bytes(self, _plan: str) -> int:
        """Not in the trace."""
        return 1

    def working_bytes(self, _plan: str, _shape: Shape) -> int:
        """Not in the trace."""
        return 1

    def step_seconds(self, _plan: str, shape: Shape) -> float:
        """Seconds at 100 TFLOP/s."""
        return self.step_flops(shape) / 1e14

    def fixed_seconds(self, _plan: str, shape: Shape) -> float:
        """Seconds at 10 million pixels a second."""
        return self.vae_flops(shape) / 1e7

    def step_flops(self, shape: Shape) -> float:
        """A transformer over one token for 2x2 latents: projections, and attention over all frames."""
        latent_frames = 1 + (shape.num_frames - 1) // 4
        tokens = latent_frames * (shape.width // 16) * (shape.height // 16)
        return 2 * _PARAMETERS * tokens + 4 * _LAYERS * _WIDTH * tokens**2

    def vae_flops(self, shape: Shape) -> float:
        """Proportional to the pixels."""
        return float(shape.num_frames * shape.width * shape.height)


def main() -> None:
    """Print the errors; exits with a usage line without a trace."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.footprint wan-a100.csv")
    by_gpus: dict[int, list[Run]] = defaultdict(list)
    for run in read(Path(sys.argv[1])):
        by_gpus[run.gpus].append(run)
    fleets = [runs for _, runs in sorted(by_gpus.items())]
    print(
        f"{sum(map(len, fleets))} runs, {len({run.shape for runs in fleets for run in runs})} shapes, by number of GPUs"
    )
    _print("held-out steps", [error for runs in fleets for error in held_out_steps(runs)])
    _print("held-out shapes", [error for runs in fleets for error in held_out_shapes(runs)])


def read(path: Path) -> list[Run]:
    """The runs that succeeded and were warm; the file repeats its header, and starts each warm-up with run 0."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["#run_id"].isdigit() and int(row["#run_id"]) > 0]
    return [
        Run(
            gpus=int(row["world_size"]),
            shape=Shape(int(row["width"]), int(row["height"]), int(row["frame_num"])),
            steps=int(row["sampling_steps"]),
            denoise_seconds=float(row["dit"]) + float(row["sched"]),  # both are in each step
            seconds=float(row["total"]),
        )
        for row in rows
    ]


def held_out_steps(runs: Sequence[Run]) -> list[float]:
    """Relative errors of each run, predicted from those of its shape with other numbers of steps."""
    errors = []
    for left_out in sorted({(run.shape.key, run.steps) for run in runs}):
        same = [run for run in runs if run.shape.key == left_out[0]]
        known = observed([run for run in same if run.steps != left_out[1]])
        errors += [_error(run, known) for run in same if run.steps == left_out[1] and known]
    return errors


def held_out_shapes(runs: Sequence[Run]) -> list[float]:
    """Relative errors of each run, predicted from those of other shapes."""
    errors = []
    for left_out in sorted({run.shape.key for run in runs}):
        known = observed([run for run in runs if run.shape.key != left_out])
        errors += [_error(run, known) for run in runs if run.shape.key == left_out and known]
    return errors


def observed(runs: Sequence[Run]) -> list[Observation]:
    """What workers would have observed, who time each step; the trace has only sums, and so the slope stands in."""
    found = []
    for shape in sorted({run.shape for run in runs}, key=lambda shape: shape.key):
        same = [run for run in runs if run.shape == shape]
        slopes = [
            (other.denoise_seconds - one.denoise_seconds) / (other.steps - one.steps)
            for one, other in combinations(same, 2)
            if one.steps != other.steps
        ]
        if not slopes:
            continue
        step = median(slopes)
        found += [
            Observation(
                Source.ATTEMPT,
                gpu_kind="A100",
                model="wan",
                plan=_PLAN,
                shape_key=shape.key,
                step_seconds=step,
                fixed_seconds=run.seconds - run.steps * step,
            )
            for run in same
        ]
    return found


def _error(run: Run, known: Sequence[Observation]) -> float:
    learned = Learned(Wan(), known)
    predicted = learned.fixed_seconds(_PLAN, run.shape) + run.steps * learned.step_seconds(_PLAN, run.shape)
    return abs(predicted / run.seconds - 1)


def _print(name: str, errors: Sequence[float]) -> None:
    ninth = quantiles(errors, n=10)[-1]
    print(f"{name:16} {len(errors):5} runs  median error {median(errors):6.2%}  90th percentile {ninth:6.2%}")


if __name__ == "__main__":
    main()
