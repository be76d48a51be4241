"""What software would gain, by the data sheet."""

import pytest

from scheduler.footprints import PriorPredictor
from scheduler.plans import CPU_PLANS, GPU_PLANS
from scheduler.remedies import Remedy, RemedyName, Work, remedies
from tests.support.fleet import MODEL, PARAMS

KIND = "NVIDIA GeForce RTX 3090"
PREDICTOR = PriorPredictor()


def found(*work: Work, plans: tuple[str, ...] = GPU_PLANS) -> dict[RemedyName, Remedy]:
    listed = remedies(work, {MODEL.id: MODEL}, PREDICTOR, {KIND: plans, "cpu": CPU_PLANS})
    gains = [max(one.memory_gain, one.time_gain) for one in listed]
    assert gains == sorted(gains, reverse=True)
    assert all(gain >= 0.01 for gain in gains)
    return {one.name: one for one in listed}


def work(plan: str = "fp16", shape: str = "768x768x24", attempts: int = 10, kind: str = KIND) -> Work:
    return Work(MODEL.id, kind, plan, shape, attempts, steps=50.0)


def test_each_gain_is_what_the_footprint_model_predicts() -> None:
    one = work(shape="512x512x16")
    remedy = found(one)[RemedyName.LEANER_PLAN]
    before, after = (PREDICTOR.predict(MODEL, kind=KIND, plan=plan, params=PARAMS) for plan in ("fp16", "fp16-chunked"))
    assert (remedy.peak_bytes, remedy.new_peak_bytes) == (before.vram_bytes, after.vram_bytes)
    assert (remedy.seconds, remedy.new_seconds) == pytest.approx((before.seconds, after.seconds))
    assert remedy.share == 1.0


def test_a_whole_plan_in_single_precision_can_do_all_of_it() -> None:
    single = found(work("fp32"), plans=("fp32", "fp16"))
    assert set(single) == set(RemedyName)
    assert single[RemedyName.FP16].memory_gain > 0.3
    assert single[RemedyName.LOWER_RESOLUTION].time_gain > 0.3


def test_what_has_been_done_is_not_advised() -> None:
    assert set(found(work("fp16-streamed"), plans=GPU_PLANS[:4])) <= {RemedyName.LOWER_RESOLUTION, RemedyName.INT8}
    assert RemedyName.INT8 not in found(work("int8"))
    assert RemedyName.FP16 not in found(work("fp16"))
    assert RemedyName.LEANER_PLAN not in found(work("fp16"), plans=("fp16",))
    assert set(found(work("fp32", kind="cpu"))) <= {RemedyName.LOWER_RESOLUTION, RemedyName.LEANER_PLAN}


def test_the_smallest_size_cannot_be_lowered() -> None:
    assert RemedyName.LOWER_RESOLUTION not in found(work(shape="256x256x16"))


def test_what_changes_a_part_of_the_work_tells_its_share_and_the_peak_of_all() -> None:
    small, large = work("fp16-streamed", "256x256x8", attempts=30), work("fp32", attempts=10)
    remedy = found(small, large)[RemedyName.FP16]
    assert remedy.share == 0.25
    assert remedy.peak_bytes > remedy.new_peak_bytes


@pytest.mark.parametrize(
    "unknown",
    [work("fp64"), work(shape="round"), Work("another/model", KIND, "fp16", "512x512x16", 1)],
)
def test_work_of_which_too_little_is_known_is_left_out(unknown: Work) -> None:
    assert found(unknown) == {}
    assert found(unknown, work()) == found(work())


def test_there_is_none_without_work() -> None:
    assert found() == {}
