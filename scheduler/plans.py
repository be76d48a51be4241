"""The plans: named ways to run the model, from the fastest to the leanest, and what each promises about its pixels.

A plan is a precision and a technique. The technique decides how much of the weights stays on the device and in how
large pieces the work is done; it never changes what is computed, only in which order sums are rounded.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """What the weights are held and multiplied in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"  # weights only; activations are float16


class Technique(StrEnum):
    """How a plan saves memory; each one includes those before it."""

    WHOLE = "whole"  # everything resident, everything at once
    CHUNKED = "chunked"  # feed-forward and attention in pieces, the VAE frame by frame and in tiles
    OFFLOADED = "offloaded"  # encoders and VAE on the device only while used
    STREAMED = "streamed"  # the UNet's blocks too, each brought in as it runs


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan.

    `max_error` bounds the final latents' distance from `reference`'s without guidance: the root mean square of the
    difference over that of the reference's latents. 0.0 means bit for bit the same, with guidance too. `resumes` names
    the numbers a checkpoint of it holds: a plan goes on from checkpoints of every plan that has the same.
    """

    name: str
    precision: Precision
    technique: Technique
    reference: str
    max_error: float
    opt_in: bool = False  # only for jobs whose caller allows it

    @property
    def resumes(self) -> str:
        """The dtype of the latents, which every plan that may take over shares."""
        return "float32" if self.precision is Precision.FLOAT32 else "float16"


# A plan that works in pieces computes the same sums. On a CPU in float16 they come out bit for bit; on a GPU, and on a
# CPU in float32, a library may pick another kernel for fewer rows, which rounds differently. In the end that is as much
# as rounding itself: without guidance the tiny model in float16 ends at most 0.008 from float32, over 4 to 50 steps
# and several seeds, and in float32 in pieces 2e-6 from the whole. Offloading and streaming only move weights: they are
# as the chunked plan, bit for bit. Weights in eight bits end at most 0.017 from float16.
# Guidance multiplies what the halves differ by. At 9.0 the tiny model, whose weights are random, makes up to 0.29 of
# float16's rounding, so no bound that means anything can be given for it.
_CHUNKED_ERROR = {Precision.FLOAT32: 1e-5, Precision.FLOAT16: 0.02}
_INT8_ERROR = 0.05

PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan("fp32", Precision.FLOAT32, Technique.WHOLE, "fp32", 0.0),
        Plan("fp32-chunked", Precision.FLOAT32, Technique.CHUNKED, "fp32", _CHUNKED_ERROR[Precision.FLOAT32]),
        Plan("fp16", Precision.FLOAT16, Technique.WHOLE, "fp16", 0.0),
        Plan("fp16-chunked", Precision.FLOAT16, Technique.CHUNKED, "fp16", _CHUNKED_ERROR[Precision.FLOAT16]),
        Plan("fp16-offload", Precision.FLOAT16, Technique.OFFLOADED, "fp16", _CHUNKED_ERROR[Precision.FLOAT16]),
        Plan("fp16-streamed", Precision.FLOAT16, Technique.STREAMED, "fp16", _CHUNKED_ERROR[Precision.FLOAT16]),
        Plan("int8", Precision.INT8, Technique.CHUNKED, "fp16", _INT8_ERROR, opt_in=True),
    )
}

CPU_PLANS = ("fp32", "fp32-chunked")
GPU_PLANS = ("fp16", "fp16-chunked", "fp16-offload", "fp16-streamed", "int8")


def usable(plans: Collection[str], *, allow_int8: bool) -> tuple[str, ...]:
    """Return those of `plans` that this version knows and the caller allows, from the fastest to the leanest."""
    return tuple(name for name, plan in PLANS.items() if name in plans and (allow_int8 or not plan.opt_in))
