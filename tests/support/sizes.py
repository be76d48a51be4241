"""Footprints that stay as they are, for tests whose cases are built from sizes and seconds."""

import pytest

from scheduler import catalog
from scheduler.footprint import Footprint
from scheduler.footprints import Footprints
from scheduler.params import VideoParams
from scheduler.records import ServedModel

_FIXED_BYTES = 2**28
_RATES = {"NVIDIA GeForce RTX 3090": 36e12, "NVIDIA H100 80GB HBM3": 495e12, "Tesla T4": 32e12, "cpu": 20e9}
# Of the working set and of the seconds that fp16 has.
_SHARES = {
    "fp32": (2.0, 2.0),
    "fp32-chunked": (1.0, 2.2),
    "fp16": (1.0, 1.0),
    "fp16-chunked": (0.5, 1.1),
    "fp16-offload": (0.5, 1.2),
    "fp16-streamed": (0.5, 2.0),
    "int8": (0.5, 1.5),
}


class FixedSizes:
    """Predicts from a few round numbers: by default 1.875 GiB beside the model and a minute on an RTX 3090."""

    def predict(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> Footprint:
        """Do what `Predictor.predict` says."""
        pixels = params.width * params.height
        tokens = pixels // 64 * params.num_frames * (2 if params.guided else 1)
        working = _FIXED_BYTES + 1.15 * max(tokens * 11520, pixels * 2560) * _SHARES[plan][0]
        resident = catalog.architecture(served.architecture).resident_bytes(plan, served.weights_bytes)
        step = self.step_seconds(served, kind=kind, plan=plan, params=params)
        return Footprint(plan, resident, int(working), 1.0 + (params.num_inference_steps + 2) * step)

    def step_seconds(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> float:
        """Do what `Predictor.step_seconds` says."""
        n = params.width * params.height // 64
        flops = params.num_frames * (5.81e8 * n + 1.44e4 * n * n) * (1.0 if params.guided else 0.5)
        return (0.03 + flops / _RATES[kind]) * _SHARES[plan][1]

    def explain(self, served: ServedModel, *, kind: str, plan: str, params: VideoParams) -> str:
        """Do what `Predictor.explain` says."""
        return "fixed"


@pytest.fixture
def fixed_sizes(monkeypatch: pytest.MonkeyPatch) -> FixedSizes:
    """Let all footprints be predicted by `FixedSizes`, whatever the model of them says and learns."""
    sizes = FixedSizes()
    monkeypatch.setattr(Footprints, "current", lambda _self: sizes)
    return sizes
