"""What software alone would gain: the work that was done, predicted once more with other sizes or plans. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from scheduler import catalog
from scheduler.footprint import Footprint
from scheduler.footprints import Predictor
from scheduler.params import Range, VideoParams
from scheduler.plans import PLANS, Precision, Technique, usable
from scheduler.records import ServedModel
from scheduler.shape import Shape

_LOWER = 0.75  # of width and height: 768 pixels become 576
_LEAST_GAIN = 0.01  # less is none
_UNGUIDED, _GUIDED = 1.0, 9.0  # all that the scale means to a footprint
_GIB = 2**30


class RemedyName(StrEnum):
    """What could be changed."""

    LOWER_RESOLUTION = "lower_resolution"
    LEANER_PLAN = "leaner_plan"
    FP16 = "fp16"
    INT8 = "int8"
    OFFLOAD = "offload"

    @property
    def words(self) -> str:
        """How a sentence calls it."""
        return _WORDS[self]


_WORDS: Mapping[RemedyName, str] = {
    RemedyName.LOWER_RESOLUTION: "three quarters of the width and height",
    RemedyName.LEANER_PLAN: "the next leaner plan",
    RemedyName.FP16: "half precision",
    RemedyName.INT8: "weights in eight bits",
    RemedyName.OFFLOAD: "offloading encoders and VAE",
}


@dataclass(frozen=True, slots=True)
class Work:
    """Attempts that had the same needs; `steps` is how many each ran, None where nobody has told."""

    model: str
    gpu_kind: str
    plan: str
    shape: str
    attempts: int
    steps: float | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a change would do to the work: the largest peak memory, and the mean seconds of a video, of all of it.

    `share` of the attempts would be other ones, in [0, 1].
    """

    name: RemedyName
    share: float
    peak_bytes: int
    new_peak_bytes: int
    seconds: float
    new_seconds: float

    @property
    def memory_gain(self) -> float:
        """The part of the peak that goes; negative where it grows."""
        return 1 - self.new_peak_bytes / self.peak_bytes

    @property
    def time_gain(self) -> float:
        """The part of the seconds that goes; negative where it takes longer."""
        return 1 - self.new_seconds / self.seconds

    @property
    def gain(self) -> str:
        """What it would do, for a sentence."""
        memory = f"{self.peak_bytes / _GIB:.1f} to {self.new_peak_bytes / _GIB:.1f} GiB"
        return f"bring the peak from {memory} and a video from {self.seconds:.0f} to {self.new_seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class _Case:
    served: ServedModel
    kind: str
    params: VideoParams
    plan: str
    attempts: int

    def need(self, predictor: Predictor) -> Footprint:
        return predictor.predict(self.served, kind=self.kind, plan=self.plan, params=self.params)


def remedies(
    work: Iterable[Work],
    served: Mapping[str, ServedModel],
    predictor: Predictor,
    plans: Mapping[str, Collection[str]],
) -> Sequence[Remedy]:
    """Return the changes by which something of the work gains memory or time, the greatest gain first.

    `plans` are those that workers run, by the GPUs' kind. Work of which too little is known is left out.
    """
    cases = [case for one in work if (case := _case(one, served)) is not None]
    found = [remedy for name in RemedyName if (remedy := _try(name, cases, predictor, plans)) is not None]
    return sorted(found, key=lambda one: -max(one.memory_gain, one.time_gain))


def _try(
    name: RemedyName, cases: Sequence[_Case], predictor: Predictor, plans: Mapping[str, Collection[str]]
) -> Remedy | None:
    change = _CHANGES[name]
    changed = [change(case, plans.get(case.kind, ())) for case in cases]
    attempts = sum(case.attempts for case in cases)
    if not attempts or all(case is None for case in changed):
        return None
    before = [case.need(predictor) for case in cases]
    after = [new.need(predictor) if new else need for new, need in zip(changed, before, strict=True)]
    counts = [case.attempts for case in cases]
    remedy = Remedy(
        name=name,
        share=sum(count for count, new in zip(counts, changed, strict=True) if new) / attempts,
        peak_bytes=max(need.vram_bytes for need in before),
        new_peak_bytes=max(need.vram_bytes for need in after),
        seconds=sum(count * need.seconds for count, need in zip(counts, before, strict=True)) / attempts,
        new_seconds=sum(count * need.seconds for count, need in zip(counts, after, strict=True)) / attempts,
    )
    return remedy if max(remedy.memory_gain, remedy.time_gain) >= _LEAST_GAIN else None


def _case(work: Work, served: Mapping[str, ServedModel]) -> _Case | None:
    model = served.get(work.model)
    if model is None or not catalog.knows(model.architecture) or work.plan not in PLANS:
        return None
    try:
        shape = Shape.parse(work.shape)
    except ValueError:  # written by a later version
        return None
    defaults = catalog.architecture(model.architecture).defaults
    params = replace(
        defaults,
        width=shape.width,
        height=shape.height,
        num_frames=shape.num_frames,
        guidance_scale=_GUIDED if shape.guided else _UNGUIDED,
        preset=shape.preset,
        num_inference_steps=round(work.steps) if work.steps else defaults.num_inference_steps,
    )
    return _Case(model, work.gpu_kind, params, work.plan, work.attempts)


def _lower(case: _Case, _: Collection[str]) -> _Case | None:
    limits = catalog.architecture(case.served.architecture).limits
    width, height = _lowered(case.params.width, limits.width), _lowered(case.params.height, limits.height)
    params = replace(case.params, width=width, height=height)
    return None if params == case.params else replace(case, params=params)


def _lowered(side: int, limit: Range) -> int:
    return max(int(limit.minimum), int(side * _LOWER) // limit.multiple_of * limit.multiple_of)


def _leaner(case: _Case, plans: Collection[str]) -> _Case | None:
    names = usable(plans, allow_int8=False)
    if case.plan not in names or case.plan == names[-1]:
        return None
    return replace(case, plan=names[names.index(case.plan) + 1])


def _fp16(case: _Case, _: Collection[str]) -> _Case | None:
    plan = PLANS[case.plan]
    if plan.precision is not Precision.FLOAT32 or case.kind == "cpu":  # which computes halves as floats
        return None
    return replace(case, plan="fp16" if plan.technique is Technique.WHOLE else "fp16-chunked")


def _int8(case: _Case, _: Collection[str]) -> _Case | None:
    if PLANS[case.plan].precision is Precision.INT8 or case.kind == "cpu":
        return None
    return replace(case, plan="int8")


def _offload(case: _Case, _: Collection[str]) -> _Case | None:
    resident = (Technique.WHOLE, Technique.CHUNKED)
    if PLANS[case.plan].technique not in resident or case.kind == "cpu":
        return None
    return replace(case, plan="fp16-offload")


_CHANGES: Mapping[RemedyName, Callable[[_Case, Collection[str]], _Case | None]] = {
    RemedyName.LOWER_RESOLUTION: _lower,
    RemedyName.LEANER_PLAN: _leaner,
    RemedyName.FP16: _fp16,
    RemedyName.INT8: _int8,
    RemedyName.OFFLOAD: _offload,
}
