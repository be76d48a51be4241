"""The presets a caller may pick, each with what it does to the video in one sentence."""

from collections.abc import Mapping

from scheduler.catalog import Architecture
from scheduler.params import FAST, HIGH, STANDARD

DESCRIPTIONS: Mapping[str, str] = {
    STANDARD: "Every step is computed in full.",
    FAST: "In the middle of the run, attention outputs of one step are used again in the next ones: faster, and an "
    "approximation, so the pixels differ from standard's. 50 steps at 512x512x16 are 15 % less work, counted. With the "
    "tiny model on a CPU they ran 1.4 times as fast, and the final latents differed by 0.22 (relative RMS); how the "
    "published model's videos look has not been judged.",
    HIGH: "Every step is computed in full, and there are 1.6 times as many of them, unless the job says how many.",
}

_STEPS: Mapping[str, float] = {HIGH: 1.6}  # in multiples of the model's own default


def default_steps(preset: str, architecture: Architecture) -> int:
    """Return how many steps a job gets that names the preset and does not say how many."""
    most = architecture.limits.num_inference_steps.maximum
    return int(min(most, round(architecture.defaults.num_inference_steps * _STEPS.get(preset, 1.0))))
