"""The ledger's arithmetic."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import placement
from scheduler.errors import Unschedulable
from scheduler.footprint import Footprint
from scheduler.placement import Offer
from scheduler.records import Gpu, GpuSample, Worker
from scheduler.states import GpuState
from tests.support.fleet import GIB, MODEL, gpu_info

BLOCK = 64 * 2**20
sizes = st.integers(1, 200 * GIB)


def gpu(*workers: Worker, **changes: Any) -> Gpu:
    info = gpu_info(**changes)
    return Gpu(info, GpuState.ACTIVE, None, None, 0.0, GpuSample(0, 0), 0.0, True, None, None, workers, ())


def worker(resident_bytes: int, model: str = MODEL.id, can_load: tuple[str, ...] = ()) -> Worker:
    return Worker(f"worker_{resident_bytes}", "GPU-0", 1, model, resident_bytes, ready=True, can_load=can_load)


def offer(working_bytes: int, capacity_bytes: int, seconds: float = 10.0) -> Offer:
    return Offer(gpu(), Footprint("fp16", 6 * GIB, working_bytes, seconds), capacity_bytes)


@given(working=sizes)
def test_a_class_covers_its_jobs_and_wastes_less_than_a_block(working: int) -> None:
    covered = placement.memory_class(working, BLOCK) * BLOCK

    assert working <= covered < working + BLOCK


def test_even_nothing_has_a_class() -> None:
    assert placement.memory_class(0, BLOCK) == 1
    assert placement.memory_class(BLOCK, BLOCK) == 1
    assert placement.memory_class(BLOCK + 1, BLOCK) == 2


@given(measured=st.integers(-GIB, 200 * GIB), total=sizes, headroom=sizes, committed=sizes)
def test_the_ledger_promises_neither_what_is_used_nor_what_is_promised(
    measured: int, total: int, headroom: int, committed: int
) -> None:
    free = placement.ledger_free_bytes(measured, total, headroom, committed)

    assert free >= 0
    assert free <= max(0, measured)
    assert free + headroom + committed <= total or free == 0
    assert free in (0, measured, total - headroom - committed), "and it promises all that is left"


def test_capacity_is_what_one_job_can_get_beside_the_model() -> None:
    assert placement.capacity_bytes(gpu(), MODEL.id, 6 * GIB) == 17 * GIB
    assert placement.capacity_bytes(gpu(worker(7 * GIB)), MODEL.id, 6 * GIB) == 16 * GIB, "measured beats predicted"
    assert placement.capacity_bytes(gpu(worker(GIB)), MODEL.id, 6 * GIB) == 17 * GIB, "until it is measured whole"


def test_all_that_is_resident_counts_once() -> None:
    def capacity_gib(*workers: Worker) -> float:
        return placement.capacity_bytes(gpu(*workers), MODEL.id, 6 * GIB) / GIB

    assert capacity_gib(worker(6 * GIB), worker(6 * GIB)) == 11, "the other worker stays beside the job"
    assert capacity_gib(worker(6 * GIB), worker(3 * GIB, "other")) == 14
    assert capacity_gib(worker(GIB), worker(3 * GIB, "other")) == 14, "the model will be there whole, once"
    assert capacity_gib(worker(3 * GIB, "other")) == 14, "a worker for it will come beside the other"
    assert capacity_gib(worker(8 * GIB, "other", (MODEL.id,))) == 17, "the model takes the place of the other one"
    assert capacity_gib(worker(8 * GIB, "other", (MODEL.id,)), worker(7 * GIB)) == 10, "it may replace the larger"


def test_the_fastest_gpu_that_fits_is_chosen() -> None:
    small_and_fast, fitting, slow = offer(GIB, GIB - 1, 1.0), offer(GIB, GIB, 2.0), offer(GIB, 9 * GIB, 3.0)

    assert placement.choose([slow, small_and_fast, fitting], BLOCK) is fitting


def test_fitting_is_judged_as_the_ledger_will_round() -> None:
    assert placement.fits(offer(GIB, GIB), BLOCK)
    assert not placement.fits(offer(GIB + 1, GIB + 1), BLOCK), "it would be reserved a block more than there is"


def test_what_fits_nowhere_is_refused_with_the_sizes_of_the_largest() -> None:
    with pytest.raises(Unschedulable) as refused:
        placement.choose([offer(20 * GIB, 3 * GIB), offer(20 * GIB, 17 * GIB)], BLOCK)

    assert str(refused.value) == (
        "the job needs 26.00 GiB of memory (6.00 GiB resident + 20.00 GiB working, reserved as "
        "20.00 GiB, plan fp16); the largest GPU, "
        "NVIDIA GeForce RTX 3090, offers 23.00 GiB, 17.00 GiB of it beside the resident model"
    )
