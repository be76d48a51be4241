"""The ledger's arithmetic."""

from dataclasses import replace
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


def offer(
    working_bytes: int, capacity_bytes: int, seconds: float = 10.0, plan: str = "fp16", gpu_id: str = "GPU-0"
) -> Offer:
    need = Footprint(plan, 6 * GIB, working_bytes, seconds)
    return Offer(gpu(gpu_id=gpu_id), need, capacity_bytes, {None: GIB, plan: need.model_bytes})


def capacity_gib(*workers: Worker, model_gib: int = 6) -> float:
    """What a GPU of 23 GiB has for a job of a model that holds 6 GiB, or under a leaner plan less."""
    return placement.capacity_bytes(gpu(*workers), MODEL.id, model_gib * GIB, {None: 2 * GIB, "fp16": 6 * GIB}) / GIB


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

    assert free <= measured
    assert free + headroom + committed <= total
    assert free in (measured, total - headroom - committed), "and it promises all that is left"


def test_capacity_is_what_one_job_can_get_beside_the_model() -> None:
    assert capacity_gib() == 17
    assert capacity_gib(worker(7 * GIB)) == 16, "measured beats predicted"
    assert capacity_gib(worker(GIB)) == 17, "until it is measured whole"


def test_a_leaner_plan_gives_memory_back() -> None:
    assert capacity_gib(worker(6 * GIB), model_gib=2) == 21
    assert capacity_gib(worker(7 * GIB), model_gib=2) == 20, "but not what the process holds with every plan"
    assert capacity_gib(worker(2 * GIB), model_gib=6) == 17, "and a faster one takes it"
    assert placement.reserved_bytes(3 * GIB, 2 * GIB, BLOCK) == 5 * GIB
    assert placement.reserved_bytes(3 * GIB, -2 * GIB, BLOCK) == GIB
    assert placement.reserved_bytes(3 * GIB, -4 * GIB, BLOCK) == BLOCK


def test_all_that_is_resident_counts_once() -> None:
    assert capacity_gib(worker(6 * GIB), worker(6 * GIB)) == 11, "the other worker stays beside the job"
    assert capacity_gib(worker(6 * GIB), worker(3 * GIB, "other")) == 14
    assert capacity_gib(worker(GIB), worker(3 * GIB, "other")) == 14, "the model will be there whole, once"
    assert capacity_gib(worker(3 * GIB, "other")) == 14, "a worker for it will come beside the other"
    assert capacity_gib(worker(8 * GIB, "other", (MODEL.id,))) == 17, "the model takes the place of the other one"
    assert capacity_gib(worker(8 * GIB, "other", (MODEL.id,)), worker(7 * GIB)) == 10, "it may replace the larger"


def test_the_fastest_gpu_that_fits_is_chosen() -> None:
    small_and_fast, fitting, slow = offer(GIB, GIB - 1, 1.0), offer(GIB, GIB, 2.0), offer(GIB, 9 * GIB, 3.0)

    assert placement.choose([slow, small_and_fast, fitting], BLOCK).offer is fitting


def test_the_fastest_plan_that_fits_is_chosen_and_says_why() -> None:
    whole = [offer(20 * GIB, 17 * GIB), offer(20 * GIB, 30 * GIB, gpu_id="GPU-1")]
    chunked = [offer(9 * GIB, 17 * GIB, 11.0, "fp16-chunked"), offer(9 * GIB, 30 * GIB, 11.0, "fp16-chunked", "GPU-1")]

    fastest = placement.choose([*whole, *chunked], BLOCK)
    leaner = placement.choose([whole[0], *chunked], BLOCK)

    assert (fastest.offer, fastest.reason) == (whole[1], "fp16 is the fastest plan, and fits 1 of 2 GPUs")
    assert leaner.offer in chunked
    assert leaner.reason == "fp16 needs 26.00 GiB and no GPU has more than 23.00 GiB; fp16-chunked fits"


def test_a_plan_for_a_gpu_in_service_goes_before_a_faster_one() -> None:
    away = offer(GIB, 9 * GIB, 1.0)
    away = replace(away, gpu=replace(away.gpu, online=False))
    slower = offer(GIB, 9 * GIB, 2.0, "fp16-chunked", "GPU-1")

    choice = placement.choose([away, slower], BLOCK)

    assert (choice.offer, choice.reason) == (slower, "fp16 fits no GPU that is in service; fp16-chunked does")
    assert placement.choose([away], BLOCK).offer is away


def test_of_plans_that_take_as_long_the_one_that_saves_least_is_chosen() -> None:
    offers = [offer(GIB, 9 * GIB, plan=plan) for plan in ("fp16-streamed", "fp16-chunked", "fp16-offload")]

    assert placement.choose(offers, BLOCK).offer.footprint.plan == "fp16-chunked"


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
