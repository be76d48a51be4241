"""The thread that claims: it claims what the engine wishes for, knowing what has come."""

import threading
from typing import TYPE_CHECKING, Any

import pytest

from workers.attempt import Ending
from workers.intake import Broken, Drained, Intake, Rejected, Want

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scheduler.records import Lease
    from tests.integration.workers.conftest import Bench

_DEADLINE_SECONDS = 10.0


class Slow:
    """A preparer that takes its time, until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def prepare(self, _lease: "Lease") -> Rejected:
        self.begun.set()
        self.may_end.wait(_DEADLINE_SECONDS)
        return Rejected(None, Ending())  # type: ignore[arg-type]  # it only has to arrive


@pytest.fixture
def started(bench: "Bench") -> "Iterator[Callable[..., Intake]]":
    made = []

    def start(claim: Any, preparer: Any) -> Intake:
        intake = Intake(claim, preparer, bench.scheduler, gpu_id=bench.gpu_id, poll_seconds=0.01)
        made.append(intake)
        intake.start()
        return intake

    yield start
    for intake in made:
        intake.close()


def test_a_wish_from_before_a_job_arrived_does_not_bring_another(started: Any) -> None:
    claims: list[Want] = []
    again = threading.Event()

    def claim(want: Want) -> object:
        claims.append(want)
        if len(claims) > 1:
            again.set()
        return object()

    preparer = Slow()
    intake = started(claim, preparer)
    intake.wish(Want())
    assert preparer.begun.wait(_DEADLINE_SECONDS)
    intake.wish(Want())  # the engine has looked around, and knows of nothing yet
    preparer.may_end.set()
    assert isinstance(intake.take(_DEADLINE_SECONDS), Rejected)
    assert not again.wait(0.2)
    intake.wish(Want(lane=1))
    assert again.wait(_DEADLINE_SECONDS)
    assert claims == [Want(), Want(lane=1)]


def test_what_was_claimed_at_the_last_moment_is_handed_over_at_the_end(bench: "Bench", started: Any) -> None:
    preparer = Slow()
    intake = started(lambda _want: object(), preparer)
    intake.wish(Want())
    assert preparer.begun.wait(_DEADLINE_SECONDS)
    preparer.may_end.set()
    assert [type(each) for each in intake.close()] == [Rejected]


def test_a_drain_and_a_failure_of_its_own_are_told(bench: "Bench", started: Any) -> None:
    answers: list[Any] = [None]

    def claim(_want: Want) -> None:
        if not answers:
            raise RuntimeError("nobody foresaw this")
        return answers.pop()  # type: ignore[no-any-return]

    bench.scheduler.fleet.drain(bench.gpu_id, "new fans", "operator")
    intake = started(claim, Slow())
    intake.wish(Want())
    assert isinstance(intake.take(_DEADLINE_SECONDS), Drained)
    assert isinstance(intake.take(_DEADLINE_SECONDS), Broken)
