"""What a job needs by the data sheet: peak memory in bytes and run time in seconds, under a plan, on a kind of GPU.

`v_peak = v_model + v_data + v_intermediate`: the process and the weights it keeps on the device, plus the widest of
the stages encode, denoise and decode, plus a margin. No number here belongs to a resolution: memory follows the tensors
that live at the widest point of each network, and time the exact work. `scheduler.learning` corrects both by what was
measured.
"""

from dataclasses import dataclass

from scheduler.params import FAST
from scheduler.plans import PLANS, Plan, Precision, Technique
from scheduler.shape import Shape
from scheduler.work import Sized, UnetWork, VaeWork, step_elements

_TRANSFER_BYTES_PER_SECOND = 12e9  # pinned host memory over PCIe 4.0 x16, about half of its rate
_TECHNIQUES = list(Technique)  # each includes those before it


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
class Weights:
    """How a model's weights divide, as shares of all of them.

    `streamed` is what of the UNet is on the device when it is streamed: what lies outside its blocks, and room for two
    of their modules. `quantised` is what of it int8 halves: its linear layers.
    """

    unet: float
    vae: float
    largest_encoder: float
    streamed: float
    quantised: float


@dataclass(frozen=True, slots=True)
class Width:
    """The widest point of a network, in values that live at once.

    Those are `whole` for each element: a latent element of a frame and sample, or a pixel of a frame. Computed in
    pieces they are `chunked` for each, and `pieces` for the pieces themselves.
    """

    whole: int
    chunked: int
    pieces: int

    def values(self, elements: int, *, chunked: bool) -> int:
        """Return the values that live at once."""
        whole = elements * self.whole
        return min(whole, elements * self.chunked + self.pieces) if chunked else whole


@dataclass(frozen=True, slots=True)
class Demand:
    """Memory beside the weights: the widths of the three stages. A value takes four bytes, or `half_bytes` as a half.

    With the `fast` preset a step keeps `kept_values` more for each element. `process_bytes`: interpreter, libraries and
    device context, by precision. `fixed_bytes`: what no shape changes. `margin`: the share added for what is not seen.
    """

    process_bytes: int
    float32_process_bytes: int
    denoise: Width
    kept_values: int
    decode: Width
    encode: Width
    half_bytes: int
    fixed_bytes: int
    margin: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Exact work, and what of a device's rate a network reaches; and the seconds beside the arithmetic.

    `fast_share` is what of a step's work is left on average with the `fast` preset.
    """

    unet: UnetWork
    vae: VaeWork
    unet_efficiency: float
    vae_efficiency: float
    fast_share: float
    step_seconds: float  # launches, Python
    overhead_seconds: float  # text and image encoders, muxing and publishing

    def step_flops(self, shape: Sized) -> int:
        """FLOPs of one denoising step, guidance included and computed in full."""
        return self.unet.step_flops(shape)

    def decode_flops(self, shape: Sized) -> int:
        """FLOPs of decoding all frames."""
        return self.vae.decode_flops(shape)

    def encode_flops(self, shape: Sized) -> int:
        """FLOPs of encoding the image."""
        return self.vae.encode_flops(shape)


@dataclass(frozen=True, slots=True)
class Rates:
    """What a kind of device computes, in FLOP per second, by precision."""

    half: float
    full: float


# Seconds of a technique's steps over those of the whole. Chunks are smaller launches, 9 % more at most by their own
# target; int8 turns its weights into halves at each use.
_CHUNKED_SLOWDOWN = 1.09
_INT8_SLOWDOWN = 1.15


@dataclass(frozen=True, slots=True)
class DataSheet:
    """Predictions for a model of `weights_bytes` (as published: FP16) on a kind of device, from what is known of both.

    Every method raises KeyError for a plan that this version does not know. A leaner plan of the same precision never
    needs more bytes (`resident_bytes` and `working_bytes` together), nor less time.
    """

    demand: Demand
    weights: Weights
    cost: Cost
    rates: Rates
    weights_bytes: int

    def resident_bytes(self, plan: str) -> int:
        """Return what a loaded process holds between jobs: itself, its device context and the weights it keeps."""
        chosen = PLANS[plan]
        full = chosen.precision is Precision.FLOAT32
        process = self.demand.float32_process_bytes if full else self.demand.process_bytes
        match chosen.technique:
            case Technique.STREAMED:
                kept = self.weights.streamed
            case Technique.OFFLOADED:
                kept = self.weights.unet
            case _:
                kept = 1.0
        if chosen.precision is Precision.INT8:
            kept -= self.weights.quantised / 2
        return process + int(kept * self._held_bytes(chosen))

    def working_bytes(self, plan: str, shape: Shape) -> int:
        """Return what a job adds to the resident bytes at its peak, the margin included."""
        need, chosen = self.demand, PLANS[plan]
        chunked, parked = (_includes(chosen, technique) for technique in (Technique.CHUNKED, Technique.OFFLOADED))
        value_bytes = 4 if chosen.precision is Precision.FLOAT32 else need.half_bytes
        elements, pixels = step_elements(shape), shape.width * shape.height

        def stage(values: int, brought: float = 0.0) -> float:
            weights = brought * self._held_bytes(chosen) if parked else 0.0
            return values * value_bytes * (1 + need.margin) + weights

        kept = elements * need.kept_values if shape.preset == FAST else 0
        widest = max(
            stage(need.denoise.values(elements, chunked=chunked) + kept),
            stage(need.decode.values(pixels, chunked=chunked), self.weights.vae),
            stage(need.encode.values(pixels, chunked=chunked), self.weights.vae),
            stage(0, self.weights.largest_encoder),
        )
        return need.fixed_bytes + int(widest)

    def step_seconds(self, plan: str, shape: Shape) -> float:
        """Return the seconds of one denoising step."""
        chosen = PLANS[plan]
        slowdown = _CHUNKED_SLOWDOWN if _includes(chosen, Technique.CHUNKED) else 1.0
        if chosen.precision is Precision.INT8:
            slowdown *= _INT8_SLOWDOWN
        rate = self._rate(chosen) * self.cost.unet_efficiency
        computing = slowdown * (self.cost.step_seconds + self.step_flops(shape) / rate)
        if not _includes(chosen, Technique.STREAMED):
            return computing
        return max(computing, self._transfer_seconds(chosen, self.weights.unet))  # the next block comes meanwhile

    def fixed_seconds(self, plan: str, shape: Shape) -> float:
        """Return the seconds of a job beside its steps: encode, decode and what surrounds them."""
        chosen = PLANS[plan]
        slowdown = _CHUNKED_SLOWDOWN if _includes(chosen, Technique.CHUNKED) else 1.0
        parked = 1.0 - self.weights.unet if _includes(chosen, Technique.OFFLOADED) else 0.0
        computing = slowdown * self.vae_flops(shape) / (self._rate(chosen) * self.cost.vae_efficiency)
        return self.cost.overhead_seconds + computing + 2 * self._transfer_seconds(chosen, parked)

    def step_flops(self, shape: Shape) -> float:
        """Return the work of a step, as it is on average: the `fast` preset leaves some out."""
        return self.cost.step_flops(shape) * (self.cost.fast_share if shape.preset == FAST else 1.0)

    def vae_flops(self, shape: Shape) -> int:
        """Return the work of the encode and the decode."""
        return self.cost.encode_flops(shape) + self.cost.decode_flops(shape)

    def footprint(self, plan: str, shape: Shape, steps: int) -> Footprint:
        """Return all of it together."""
        return Footprint(
            plan=plan,
            model_bytes=self.resident_bytes(plan),
            working_bytes=self.working_bytes(plan, shape),
            seconds=self.fixed_seconds(plan, shape) + steps * self.step_seconds(plan, shape),
        )

    def _held_bytes(self, plan: Plan) -> int:
        """All weights, in the precision they are held in."""
        return self.weights_bytes * (2 if plan.precision is Precision.FLOAT32 else 1)

    def _rate(self, plan: Plan) -> float:
        return self.rates.full if plan.precision is Precision.FLOAT32 else self.rates.half

    def _transfer_seconds(self, plan: Plan, share: float) -> float:
        return share * self._held_bytes(plan) / _TRANSFER_BYTES_PER_SECOND


def _includes(plan: Plan, technique: Technique) -> bool:
    return _TECHNIQUES.index(plan.technique) >= _TECHNIQUES.index(technique)
