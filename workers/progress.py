"""How far a job is, as one fraction: each stage's share is its share of the predicted work."""

from scheduler.catalog import Architecture
from scheduler.params import VideoParams
from scheduler.records import Progress
from scheduler.states import Stage

_ENCODING, _MUXING = 0.02, 0.03  # shares of the stages that are not counted in FLOPs


class ProgressScale:
    """Turns "step i" or "frame i" of one job into a `Progress`."""

    def __init__(self, architecture: Architecture, params: VideoParams) -> None:
        self._steps = params.num_inference_steps
        self._frames = params.num_frames
        denoise = params.num_inference_steps * architecture.cost.step_flops(params)
        decode = architecture.cost.decode_flops(params)
        self._denoising = (1 - _ENCODING - _MUXING) * denoise / (denoise + decode)

    def loading(self) -> Progress:
        """The input is fetched."""
        return Progress(Stage.LOADING, 0, self._steps, 0.0)

    def encoding(self) -> Progress:
        """Prompt and image are encoded."""
        return Progress(Stage.ENCODING, 0, self._steps, _ENCODING / 2)

    def denoised(self, step: int) -> Progress:
        """`step` denoising steps are done."""
        fraction = _ENCODING + self._denoising * step / self._steps
        return Progress(Stage.DENOISING, step, self._steps, fraction)

    def decoded(self, frames: int) -> Progress:
        """`frames` frames are decoded."""
        start = _ENCODING + self._denoising
        fraction = start + (1 - _MUXING - start) * frames / self._frames
        return Progress(Stage.DECODING, self._steps, self._steps, fraction)

    def muxing(self) -> Progress:
        """The file is finished and published."""
        return Progress(Stage.MUXING, self._steps, self._steps, 1 - _MUXING)
