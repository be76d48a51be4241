"""What is claimed beside or after the jobs of a pass, and what may share it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.params import FAST
from scheduler.shape import Shape
from tests.support.fleet import PARAMS
from workers.batching import Sharing
from workers.intake import Want
from workers.wanting import may_share, wanted

SHAPE = Shape.of(PARAMS).key


def attempt(index: int = 0, *, lane: int = 0, kind: str = "k", safer: Any = frozenset(), **params: Any) -> Any:
    return SimpleNamespace(
        lease=SimpleNamespace(lane=lane, params=replace(PARAMS, **params), plan="fp16"),
        must_run=SimpleNamespace(steps=50, index=index),
        safer=safer,
        kind=kind,
    )


def sharing(most: int = 3) -> Sharing:
    """Has seen that a pass of one takes a second, and a pass of two hardly more."""
    known = Sharing(most)
    for jobs, seconds in ((1, 1.0), (2, 1.1)):
        for _ in range(3):
            known.passed("k", jobs, seconds)
    return known


def test_where_nothing_runs_any_job_will_do() -> None:
    assert wanted([], sharing(), 1.0) == Want()


def test_before_the_last_one_ends_its_successor_is_wanted_in_its_lane() -> None:
    batch = [attempt(48, lane=0), attempt(45, lane=1)]
    assert wanted(batch, sharing(), 5.5) == Want(lane=1)
    assert wanted(batch, sharing(), 5.4) == Want(2, SHAPE, "fp16")


def test_one_more_is_wanted_for_the_first_lane_that_is_free() -> None:
    assert wanted([attempt(lane=1)], sharing(), 1.0) == Want(0, SHAPE, "fp16")


@pytest.mark.parametrize(
    ("running", "most"),
    [(attempt(), 1), (attempt(safer=frozenset({"vae"})), 3), (attempt(preset=FAST), 3), (attempt(kind="unknown"), 3)],
)
def test_nothing_is_wanted_where_nothing_may_share_the_pass(running: Any, most: int) -> None:
    assert wanted([running], sharing(most), 1.0) is None


def test_the_last_step_of_an_unknown_pace_is_short_before_the_end() -> None:
    assert wanted([attempt(49, kind="unknown")], sharing(), 1.0) == Want(lane=0)


def test_only_the_same_kind_in_another_lane_shares_a_pass() -> None:
    assert may_share(attempt(lane=1), [attempt(lane=0)])
    assert not may_share(attempt(lane=0), [attempt(lane=0)])
    assert not may_share(attempt(lane=1, kind="other"), [attempt(lane=0)])
