"""Where a job goes that ran out of memory: what is chosen, and that it never goes round in circles."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduler import placement
from scheduler.footprint import Footprint
from scheduler.out_of_memory import Failure, choose, is_known
from scheduler.placement import Offer
from scheduler.plans import GPU_PLANS
from scheduler.records import Gpu, GpuSample
from scheduler.states import GpuState
from tests.support.fleet import GIB, gpu_info

BLOCK = GIB // 16
SMALL, LARGE = 10 * GIB, 40 * GIB


def offer(
    plan: str, working_gib: float, capacity_bytes: int, gpu_id: str = "GPU-0", *, seconds: float = 60.0, **gpu: Any
) -> Offer:
    state = {"state": GpuState.ACTIVE, "online": True} | gpu
    there = Gpu(
        gpu_info(gpu_id), state["state"], None, None, 0.0, GpuSample(0, 1), 0.0, state["online"], None, None, (), ()
    )
    return Offer(
        there, Footprint(plan, 6 * GIB, int(working_gib * GIB), seconds), capacity_bytes, {None: GIB, plan: 6 * GIB}
    )


def chosen(offers: Sequence[Offer], *failures: Failure) -> tuple[str, str] | None:
    found = choose(offers, failures, BLOCK)
    return None if found is None else (found.gpu.info.id, found.footprint.plan)


def test_the_fastest_leaner_plan_that_fits_is_next() -> None:
    offers = [
        offer("fp16", 8, SMALL),
        offer("fp16-chunked", 11, SMALL, seconds=70),
        offer("fp16-offload", 9, SMALL, seconds=80),
        offer("fp16-streamed", 4, SMALL, seconds=200),
    ]
    assert chosen(offers, Failure("fp16", SMALL)) == ("GPU-0", "fp16-offload")


def test_a_leaner_plan_goes_before_a_larger_gpu() -> None:
    offers = [offer("fp16", 8, SMALL), offer("fp16-chunked", 6, SMALL, seconds=70), offer("fp16", 8, LARGE, "GPU-1")]
    assert chosen(offers, Failure("fp16", SMALL)) == ("GPU-0", "fp16-chunked")


def test_never_a_faster_plan_again() -> None:
    offers = [offer("fp16", 2, LARGE), offer("fp16-chunked", 2, SMALL)]
    assert chosen(offers, Failure("fp16-chunked", SMALL)) is None


def test_without_a_leaner_plan_the_same_one_goes_where_there_is_more_and_reserves_more_than_was_not_enough() -> None:
    offers = [offer("fp16", 8, SMALL), offer("fp16", 8, SMALL + BLOCK - 1, "GPU-1"), offer("fp16", 8, LARGE, "GPU-2")]
    found = choose(offers, [Failure("fp16", SMALL)], BLOCK)
    assert found is not None
    assert found.gpu.info.id == "GPU-2"
    needed = placement.memory_class(found.footprint.working_bytes, BLOCK)
    assert needed * BLOCK > SMALL
    assert found.footprint.working_bytes == SMALL + BLOCK


def test_the_prediction_stands_where_it_is_more() -> None:
    found = choose([offer("fp16", 30, LARGE)], [Failure("fp16", SMALL)], BLOCK)
    assert found is not None
    assert found.footprint.working_bytes == 30 * GIB


def test_a_gpu_in_service_is_preferred() -> None:
    offers = [
        offer("fp16-chunked", 6, LARGE, "GPU-1", state=GpuState.DRAINED),
        offer("fp16-streamed", 4, SMALL, seconds=200),
    ]
    assert chosen(offers, Failure("fp16", SMALL)) == ("GPU-0", "fp16-streamed")
    assert chosen(offers[:1], Failure("fp16", SMALL)) == ("GPU-1", "fp16-chunked")


def test_earlier_failures_count_too() -> None:
    offers = [offer("fp16", 2, SMALL), offer("fp16-chunked", 2, SMALL), offer("fp16-offload", 2, SMALL, seconds=90)]
    failures = [Failure("fp16-chunked", SMALL), Failure("fp16", SMALL)]
    assert chosen(offers, *failures) == ("GPU-0", "fp16-offload")


def test_nothing_is_left_once_the_leanest_plan_has_failed_on_the_largest_gpu() -> None:
    offers = [offer(plan, 4, capacity, f"GPU-{capacity}") for plan in GPU_PLANS for capacity in (SMALL, LARGE)]
    assert chosen(offers, Failure("int8", LARGE)) is None
    assert chosen([], Failure("fp16", SMALL)) is None


def test_a_failure_on_as_much_memory_is_known() -> None:
    earlier = [Failure("fp16", SMALL), Failure("fp16-chunked", LARGE)]
    assert is_known(Failure("fp16", SMALL), earlier)
    assert is_known(Failure("fp16-chunked", SMALL), earlier)
    assert not is_known(Failure("fp16", LARGE), earlier)
    assert not is_known(Failure("fp16", SMALL), [])


_MEMORY = st.integers(0, 12).map(lambda blocks: blocks * BLOCK + 5)
_GPUS = st.lists(st.tuples(_MEMORY, st.sets(st.sampled_from(GPU_PLANS), min_size=1)), min_size=1, max_size=4)
_NEEDS = st.fixed_dictionaries({plan: st.integers(1, 10 * BLOCK) for plan in GPU_PLANS})
_SECONDS = st.fixed_dictionaries({plan: st.integers(1, 100) for plan in GPU_PLANS})


@given(_GPUS, _NEEDS, _SECONDS, st.data())
def test_a_job_that_always_fails_fails_nowhere_twice_and_ends(
    gpus: list[tuple[int, set[str]]], needs: dict[str, int], seconds: dict[str, int], data: st.DataObject
) -> None:
    """Any GPU that has the memory may claim it, as any claim does: it need not be the one it was planned for."""
    fleet = [
        offer(plan, needs[plan] / GIB, capacity, f"GPU-{number}", seconds=seconds[plan])
        for number, (capacity, plans) in enumerate(gpus)
        for plan in GPU_PLANS
        if plan in plans
    ]
    fitting = [each for each in fleet if placement.fits(each, BLOCK)]
    if not fitting:
        return
    current: Offer | None = data.draw(st.sampled_from(fitting))
    failures: list[Failure] = []
    while current is not None:
        wanted = placement.memory_class(current.footprint.working_bytes, BLOCK) * BLOCK
        able = [x for x in fleet if x.footprint.plan == current.footprint.plan and x.capacity_bytes >= wanted]
        ran = data.draw(st.sampled_from(able))
        failure = Failure(ran.footprint.plan, ran.capacity_bytes)
        assert not is_known(failure, failures), "each failure costs no attempt, so none may be a repetition"
        failures.append(failure)
        assert len(failures) <= len(fleet)
        current = choose(fleet, failures, BLOCK)

    last = failures[-1].plan
    leanest_left = [x for x in fleet if GPU_PLANS.index(x.footprint.plan) >= GPU_PLANS.index(last)]
    for each in leanest_left:
        lost = [x.capacity_bytes for x in failures if x.plan == each.footprint.plan]
        ruled_out = bool(lost) and each.capacity_bytes // BLOCK <= max(lost) // BLOCK
        assert ruled_out or not placement.fits(each, BLOCK)
