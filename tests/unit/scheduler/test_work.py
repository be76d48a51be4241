"""Exact work: the figures that were counted, and what must hold of them. The counts themselves: test_counting.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.shape import Shape
from scheduler.work import I2VGEN_XL_UNET, I2VGEN_XL_VAE, TINY_UNET, TINY_VAE, UnetWork, VaeWork, frame_elements

sides = st.integers(32, 191).map(lambda n: 8 * n)
shapes = st.builds(Shape, sides, sides, st.integers(2, 63), st.booleans())


@pytest.mark.parametrize(
    ("shape", "step_tflop", "decode_tflop"),
    [
        (Shape(512, 512, 16), 41.9, 40),
        (Shape(768, 768, 16), 105, 92),
        (Shape(768, 768, 24), 157, 138),
        (Shape(1024, 1024, 32), 428, 335),
        (Shape(1280, 704, 16), 176, 143),
    ],
    ids=lambda value: value.key if isinstance(value, Shape) else "",
)
def test_the_counted_shapes(shape: Shape, step_tflop: float, decode_tflop: float) -> None:
    assert I2VGEN_XL_UNET.step_flops(shape) == pytest.approx(step_tflop * 1e12, rel=0.005)
    assert I2VGEN_XL_VAE.decode_flops(shape) == pytest.approx(decode_tflop * 1e12, rel=0.01)


@given(shape=shapes, unet=st.sampled_from([I2VGEN_XL_UNET, TINY_UNET]))
def test_guidance_doubles_a_step(shape: Shape, unet: UnetWork) -> None:
    plain, guided = (Shape(shape.width, shape.height, shape.num_frames, guided) for guided in (False, True))

    assert unet.step_flops(guided) == 2 * unet.step_flops(plain)


@given(shape=shapes, vae=st.sampled_from([I2VGEN_XL_VAE, TINY_VAE]))
def test_the_vae_does_each_frame_by_itself_and_encodes_one(shape: Shape, vae: VaeWork) -> None:
    half = Shape(shape.width, shape.height, 1)

    assert vae.decode_flops(shape) == shape.num_frames * vae.decode_flops(half)
    assert vae.encode_flops(shape) == vae.encode_flops(half)


def test_levels_are_rounded_up() -> None:
    assert [frame_elements(Shape(264, 328, 2), level) for level in range(4)] == [33 * 41, 17 * 21, 9 * 11, 5 * 6]
