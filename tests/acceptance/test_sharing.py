"""The service as it comes: jobs of one shape may share forward passes, and the next one is prepared in time."""

from collections.abc import Callable

import pytest

from tests.support.service import TINY, Service

pytestmark = pytest.mark.acceptance


def test_a_burst_of_jobs_is_worked_off_with_the_defaults(new_service: Callable[..., Service]) -> None:
    service = new_service(batch_jobs=4).start()
    wanted = [TINY | {"num_inference_steps": 20 + index, "num_frames": 4} for index in range(6)]
    wanted[4] |= {"width": 128, "height": 128}
    ids = [service.submit(params, seed=seed)["id"] for seed, params in enumerate(wanted)]
    jobs = [service.wait(job_id) for job_id in ids]
    assert [job["status"] for job in jobs] == ["succeeded"] * len(wanted)
    assert [job["attempts"] for job in jobs] == [1] * len(wanted)
    assert [job["video"]["num_frames"] for job in jobs] == [4] * len(wanted)
    for job in jobs:
        assert job["measured"]["sharing"] in range(1, 5)
        assert job["measured"]["steps"] == job["params"]["num_inference_steps"]
        assert set(job["measured"]["stage_seconds"]) >= {"encoding", "denoising", "decoding", "muxing"}
    assert next(job for job in jobs if job["params"]["width"] == 128)["measured"]["sharing"] == 1
