"""Predicted memory and time: monotone in every dimension, and sane at the published shapes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import catalog
from scheduler.footprint import Footprint
from scheduler.params import VideoParams

GB = 1e9
RTX_3090 = "NVIDIA GeForce RTX 3090"
WEIGHTS_BYTES = 4_970_000_000  # the published FP16 files together
MODEL = catalog.architecture(catalog.I2VGEN_XL)
TINY = catalog.architecture(catalog.I2VGEN_XL_TINY)

shapes = st.builds(
    VideoParams,
    width=st.integers(32, 191).map(lambda n: 8 * n),
    height=st.integers(32, 191).map(lambda n: 8 * n),
    num_frames=st.integers(2, 63),
    num_inference_steps=st.integers(1, 199),
    guidance_scale=st.just(9.0),
    target_fps=st.just(16),
    seed=st.just(0),
)


def footprint(params: VideoParams, plan: str = "fp16", kind: str = RTX_3090) -> Footprint:
    return MODEL.footprint(params, plan=plan, kind=kind, weights_bytes=WEIGHTS_BYTES)


def shape(side: int, frames: int, steps: int = 50) -> VideoParams:
    return replace(MODEL.defaults, width=side, height=side, num_frames=frames, num_inference_steps=steps)


@given(params=shapes, field=st.sampled_from(["width", "height", "num_frames"]))
def test_a_larger_video_needs_more_memory_and_time(params: VideoParams, field: str) -> None:
    larger = replace(params, **{field: getattr(params, field) + (1 if field == "num_frames" else 8)})

    before, after = footprint(params), footprint(larger)

    assert after.working_bytes >= before.working_bytes
    assert after.seconds > before.seconds
    assert after.model_bytes == before.model_bytes, "the weights know no shape"


@given(params=shapes)
def test_steps_cost_time_in_a_straight_line_and_no_memory(params: VideoParams) -> None:
    one, two, three = (
        footprint(replace(params, num_inference_steps=params.num_inference_steps + extra)) for extra in (0, 1, 2)
    )

    assert one.working_bytes == three.working_bytes
    assert two.seconds - one.seconds == pytest.approx(three.seconds - two.seconds, rel=1e-6, abs=1e-9)
    assert two.seconds > one.seconds


@given(params=shapes)
def test_without_guidance_a_step_is_half(params: VideoParams) -> None:
    plain = replace(params, guidance_scale=1.0)

    assert footprint(plain).working_bytes <= footprint(params).working_bytes
    assert MODEL.cost.step_flops(plain) == pytest.approx(MODEL.cost.step_flops(params) / 2)


@given(params=shapes)
def test_full_precision_needs_more(params: VideoParams) -> None:
    half, full = footprint(params), footprint(params, plan="fp32")

    assert full.working_bytes > half.working_bytes
    assert full.model_bytes > half.model_bytes
    assert half.vram_bytes == half.model_bytes + half.working_bytes


@pytest.mark.parametrize(
    ("side", "frames", "low", "high"),
    [
        (512, 16, 6, 9),  # FP16 weights alone are 4.97 GB
        (768, 24, 8, 14),  # the article measures 11.8 GB
        (768, 16, 7, 14),
        (1024, 32, 14, 24),
    ],
)
def test_memory_at_the_published_shapes(side: int, frames: int, low: float, high: float) -> None:
    assert low * GB < footprint(shape(side, frames)).vram_bytes < high * GB


@pytest.mark.parametrize(
    ("side", "frames", "step_tflop", "decode_tflop"),
    [(512, 16, 41.9, 40), (768, 16, 105, 92), (768, 24, 157, 138), (1024, 32, 428, 335)],
)
def test_work_at_the_counted_shapes(side: int, frames: int, step_tflop: float, decode_tflop: float) -> None:
    params = shape(side, frames)

    assert MODEL.cost.step_flops(params) == pytest.approx(step_tflop * 1e12, rel=0.02)
    assert MODEL.cost.decode_flops(params) == pytest.approx(decode_tflop * 1e12, rel=0.03)


def test_time_on_the_articles_card_is_of_the_right_order() -> None:
    """The article's 78 s for 768p, 24 frames, 80 steps would need twice the card's peak rate: we promise no less."""
    seconds = footprint(shape(768, 24, steps=80)).seconds

    assert 78 < seconds < 600
    assert footprint(shape(768, 24, steps=80), kind="NVIDIA H100 80GB HBM3").seconds < seconds / 4


def test_an_unknown_card_and_the_cpu_have_a_time_too() -> None:
    cpu, unknown = (footprint(MODEL.defaults, kind=kind).seconds for kind in ("cpu", "NVIDIA Future 9000"))

    assert 0 < unknown < cpu


def test_the_tiny_model_is_small() -> None:
    need = TINY.footprint(TINY.defaults, plan="fp32", kind="cpu", weights_bytes=catalog.TINY_WEIGHTS_BYTES)

    assert 0 < need.vram_bytes < 2 * GB
    assert need.seconds > 0


def test_a_plan_or_model_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="int3"):
        footprint(MODEL.defaults, plan="int3")
    with pytest.raises(KeyError, match="sora"):
        catalog.architecture("sora")
