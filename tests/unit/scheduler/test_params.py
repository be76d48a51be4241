"""What a model accepts, and what is refused with the field and the limit in the message."""

import math
from dataclasses import fields, replace

import pytest

from scheduler import catalog
from scheduler.errors import InvalidParameter
from scheduler.params import (
    METADATA_MAX_CHARS,
    METADATA_MAX_KEYS,
    PROMPT_MAX_CHARS,
    SEED_MAX,
    Limits,
    Range,
    VideoParams,
    check_metadata,
    check_priority,
    check_text,
)

LIMITS = catalog.architecture(catalog.I2VGEN_XL).limits
PARAMS = VideoParams(512, 512, 16, 50, 9.0, 16, seed=7)


def ranged() -> list[tuple[str, Range]]:
    return [(field.name, getattr(LIMITS, field.name)) for field in fields(Limits)]


@pytest.mark.parametrize(("field", "limit"), ranged())
def test_each_limit_is_inclusive_and_named_when_broken(field: str, limit: Range) -> None:
    step = limit.multiple_of
    for inside in (limit.minimum, limit.maximum):
        LIMITS.check(replace(PARAMS, **{field: inside}))
    for outside in (limit.minimum - step, limit.maximum + step):
        with pytest.raises(InvalidParameter) as refused:
            LIMITS.check(replace(PARAMS, **{field: outside}))
        assert refused.value.field == field
        assert str(refused.value).startswith(f"{field} must be from ")
        assert f"to {limit.maximum:.0f}, not {outside:.0f}" in str(refused.value)


@pytest.mark.parametrize("field", [field for field, _ in ranged()])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidParameter, match=rf"^{field} must be from .*, not {value}$"):
        LIMITS.check(replace(PARAMS, **{field: value}))


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_size(value: bool) -> None:
    for field in ("width", "height", "num_frames"):
        with pytest.raises(InvalidParameter, match=field):
            LIMITS.check(replace(PARAMS, **{field: value}))


@pytest.mark.parametrize("field", ["width", "height"])
def test_sizes_are_divisible_by_the_vaes_scale(field: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{field} must be divisible by 8, not 516$"):
        LIMITS.check(replace(PARAMS, **{field: 516}))


def test_a_large_limit_is_not_rounded() -> None:
    with pytest.raises(InvalidParameter, match=f"^seed must be from 0 to {SEED_MAX}, not {SEED_MAX + 1}$"):
        LIMITS.check(replace(PARAMS, seed=SEED_MAX + 1))


@pytest.mark.parametrize("name", [catalog.I2VGEN_XL, catalog.I2VGEN_XL_TINY])
def test_a_models_own_defaults_are_accepted(name: str) -> None:
    architecture = catalog.architecture(name)
    architecture.limits.check(architecture.defaults)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x" * (PROMPT_MAX_CHARS + 1), f"at most {PROMPT_MAX_CHARS} characters, not {PROMPT_MAX_CHARS + 1}"),
        ("a\x00b", "NUL"),
        ("a\ud800b", "valid Unicode"),
        (" \n\t", "must not be empty"),
    ],
)
def test_text_that_cannot_be_stored_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^prompt must .*{why}|^prompt {why}"):
        check_text("prompt", text, required=True)


def test_ordinary_text_is_accepted() -> None:
    check_text("prompt", "x" * PROMPT_MAX_CHARS, required=True)
    check_text("prompt", "ein Drachen über dem Meer 🪁", required=True)
    check_text("negative_prompt", "")


def test_the_negative_prompt_is_checked_too() -> None:
    with pytest.raises(InvalidParameter, match=r"^negative_prompt must be at most"):
        LIMITS.check(replace(PARAMS, negative_prompt="x" * (PROMPT_MAX_CHARS + 1)))


@pytest.mark.parametrize("priority", [0.0, -1.0, 0.009, 100.1, math.nan, math.inf])
def test_priority_has_limits(priority: float) -> None:
    check_priority(0.01)
    check_priority(100)
    with pytest.raises(InvalidParameter, match=r"^priority must be from 0\.01 to 100, not"):
        check_priority(priority)


def test_metadata_is_small() -> None:
    check_metadata({"k" * METADATA_MAX_CHARS: "v" * METADATA_MAX_CHARS})
    check_metadata({str(number): "" for number in range(METADATA_MAX_KEYS)})
    too_much: list[dict[str, str]] = [
        {str(number): "" for number in range(METADATA_MAX_KEYS + 1)},
        {"k" * (METADATA_MAX_CHARS + 1): ""},
        {"k": "v" * (METADATA_MAX_CHARS + 1)},
        {"k": "a\x00"},
        {"\udfff": "v"},
    ]
    for metadata in too_much:
        with pytest.raises(InvalidParameter, match=r"^metadata "):
            check_metadata(metadata)


def test_params_survive_json_and_a_later_versions_keys() -> None:
    values = PARAMS.to_dict()
    assert VideoParams.from_dict(values) == PARAMS
    assert VideoParams.from_dict({**values, "camera_motion": "zoom"}) == PARAMS
