"""Which served model a caller means."""

import pytest

from scheduler import catalog
from scheduler.errors import InvalidParameter
from scheduler.records import ServedModel

REAL = ServedModel("ali-vilab/i2vgen-xl", catalog.I2VGEN_XL, 1, "a")
TINY = ServedModel(catalog.TINY_MODEL_ID, catalog.I2VGEN_XL_TINY, 1, "b")
SERVED = {model.id: model for model in (REAL, TINY)}


@pytest.mark.parametrize(("said", "meant"), [(None, REAL), (REAL.id, REAL), (TINY.id, TINY), ("tiny", TINY)], ids=str)
def test_by_name_by_short_name_or_the_newest(said: str | None, meant: ServedModel) -> None:
    assert catalog.resolve(said, SERVED) is meant


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidParameter, match="one of ali-vilab/i2vgen-xl, tiny-random-noise, not 'sora'") as refused:
        catalog.resolve("sora", SERVED)
    assert refused.value.field == "model"
    with pytest.raises(InvalidParameter, match="not 'tiny'"):
        catalog.resolve("tiny", {REAL.id: REAL})
