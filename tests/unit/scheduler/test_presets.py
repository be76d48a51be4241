from dataclasses import replace

import pytest

from scheduler.catalog import I2VGEN_XL, architecture
from scheduler.params import FAST, HIGH, PRESETS, STANDARD
from scheduler.presets import DESCRIPTIONS, default_steps
from scheduler.shape import Shape

MODEL = architecture(I2VGEN_XL)


def test_every_preset_is_described() -> None:
    assert set(DESCRIPTIONS) == set(PRESETS)


@pytest.mark.parametrize(("preset", "steps"), [(STANDARD, 50), (FAST, 50), (HIGH, 80)])
def test_steps_of_a_preset(preset: str, steps: int) -> None:
    assert default_steps(preset, MODEL) == steps


def test_steps_stay_within_the_models_limits() -> None:
    eager = replace(MODEL, defaults=replace(MODEL.defaults, num_inference_steps=150))
    assert default_steps(HIGH, eager) == 200


def test_high_is_the_same_computation_as_standard() -> None:
    shape = Shape.of(replace(MODEL.defaults, preset=HIGH))
    assert shape == Shape.of(MODEL.defaults)
    assert shape.key == "512x512x16"
    assert Shape.of(replace(MODEL.defaults, preset=FAST)).key == "512x512x16,fast"
