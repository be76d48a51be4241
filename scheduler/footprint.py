"""What a job needs: predicted peak memory in bytes and run time in seconds, under a plan, on a kind of GPU.

`v_peak = v_model + v_data + v_intermediate`: the weights and the process around them, plus the larger of the
denoising and the decoding working set, plus a margin. No number here belongs to a resolution; each
scales with the latent elements of the shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.params import VideoParams

VAE_SCALE = 8  # pixels per latent element, each side: AutoencoderKL with four blocks


@dataclass(frozen=True, slots=True)
class Footprint:
    """A prediction. `model_bytes` is resident between jobs, `working_bytes` comes and goes with one job."""

    plan: str
    model_bytes: int
    working_bytes: int
    seconds: float

    @property
    def vram_bytes(self) -> int:
        """The predicted peak of the whole process, in bytes."""
        return self.model_bytes + self.working_bytes


@dataclass(frozen=True, slots=True)
class Demand:
    """Memory of a model under one plan, linear in the shape.

    `process_bytes`: interpreter, libraries and device context. `denoise_bytes_per_token`: live activations per
    latent element, frame and guidance half at the widest point of the UNet. `decode_bytes_per_pixel`:
    live activations per output pixel of the frames decoded together. `fixed_bytes`: what no shape changes.
    `margin`: the share added on top for what the formula does not see.
    """

    process_bytes: int
    weights_factor: float  # bytes held per byte of FP16 or FP32 file, by the plan's precision
    denoise_bytes_per_token: float
    decode_bytes_per_pixel: float
    fixed_bytes: int
    margin: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Work in FLOPs: `linear * n + quadratic * n**2` per frame of n latent elements (self-attention is quadratic)."""

    step_linear: float
    step_quadratic: float
    decode_linear: float
    decode_quadratic: float
    step_seconds: float  # what a step takes beside its arithmetic: launches, Python
    overhead_seconds: float  # encoders, muxing and publishing

    def step_flops(self, params: VideoParams) -> float:
        """FLOPs of one denoising step, guidance included."""
        n = latent_elements(params)
        halves = guidance_halves(params) / 2  # the coefficients were counted with guidance on
        return halves * params.num_frames * (self.step_linear * n + self.step_quadratic * n * n)

    def decode_flops(self, params: VideoParams) -> float:
        """FLOPs of decoding all frames."""
        n = latent_elements(params)
        return params.num_frames * (self.decode_linear * n + self.decode_quadratic * n * n)


def latent_elements(params: VideoParams) -> int:
    """Latent elements of one frame: one per 8x8 pixels."""
    return (params.width // VAE_SCALE) * (params.height // VAE_SCALE)


def guidance_halves(params: VideoParams) -> int:
    """Two halves (conditional and not) share each step when guidance is on, one when it is off."""
    return 2 if params.guidance_scale > 1.0 else 1


def resident_bytes(demand: Demand, weights_bytes: int) -> int:
    """What a process holds between jobs: itself, its device context and the weights."""
    return demand.process_bytes + int(weights_bytes * demand.weights_factor)


def predict(
    demand: Mapping[str, Demand],
    cost: Cost,
    params: VideoParams,
    *,
    plan: str,
    weights_bytes: int,
    flops_per_second: float,
) -> Footprint:
    """Predict the footprint of `params` under `plan`; raises KeyError for a plan the model does not have."""
    need = demand[plan]
    tokens = latent_elements(params) * params.num_frames * guidance_halves(params)
    denoise = tokens * need.denoise_bytes_per_token
    decode = params.width * params.height * need.decode_bytes_per_pixel
    working = need.fixed_bytes + max(denoise, decode) * (1 + need.margin)
    step_seconds = cost.step_seconds + cost.step_flops(params) / flops_per_second
    return Footprint(
        plan=plan,
        model_bytes=resident_bytes(need, weights_bytes),
        working_bytes=int(working),
        seconds=(
            cost.overhead_seconds
            + params.num_inference_steps * step_seconds
            + cost.decode_flops(params) / flops_per_second
        ),
    )
