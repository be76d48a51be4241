"""Progress: one fraction that only grows, in shares that follow the predicted work."""

import random
from itertools import pairwise

import pytest

from scheduler import catalog
from scheduler.params import VideoParams
from scheduler.records import Progress
from scheduler.states import Stage
from workers.progress import ProgressScale


def _whole_run(architecture: str, params: VideoParams) -> list[Progress]:
    scale = ProgressScale(catalog.architecture(architecture), params)
    return [
        scale.loading(),
        scale.encoding(),
        *(scale.denoised(step) for step in range(1, params.num_inference_steps + 1)),
        *(scale.decoded(frame) for frame in range(1, params.num_frames + 1)),
        scale.muxing(),
    ]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("architecture", [catalog.I2VGEN_XL, catalog.I2VGEN_XL_TINY])
def test_the_fraction_grows_from_0_and_stays_below_1(architecture: str, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  sizes, no secrets
    side = 8 * rng.randint(8, 128)
    params = VideoParams(side, 64, rng.randint(2, 64), rng.randint(1, 200), rng.choice([0.0, 9.0]), 8, seed)
    run = _whole_run(architecture, params)
    fractions = [each.fraction for each in run]
    assert fractions[0] == 0.0
    assert all(before < after for before, after in pairwise(fractions[:-1]))
    # The last frame and the beginning of muxing are the same moment.
    assert fractions[-2] == pytest.approx(fractions[-1])
    assert fractions[-1] < 1.0


def test_steps_never_pass_their_number() -> None:
    params = VideoParams(64, 64, 4, 7, 9.0, 8, 1)
    run = _whole_run(catalog.I2VGEN_XL_TINY, params)
    assert {each.steps for each in run} == {7}
    assert [each.step for each in run] == [0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7]
    assert [each.stage for each in run[:3]] == [Stage.LOADING, Stage.ENCODING, Stage.DENOISING]
    assert [each.stage for each in run[-2:]] == [Stage.DECODING, Stage.MUXING]


def test_denoising_has_the_share_of_its_flops() -> None:
    architecture = catalog.architecture(catalog.I2VGEN_XL)
    params = VideoParams(512, 512, 16, 50, 9.0, 16, 1)
    denoise = 50 * architecture.cost.step_flops(params)
    share = denoise / (denoise + architecture.cost.decode_flops(params))
    scale = ProgressScale(architecture, params)
    denoising = scale.denoised(50).fraction - scale.denoised(0).fraction
    decoding = scale.decoded(16).fraction - scale.decoded(0).fraction
    assert denoising / (denoising + decoding) == pytest.approx(share)
    assert scale.denoised(25).fraction - scale.denoised(0).fraction == pytest.approx(denoising / 2)
