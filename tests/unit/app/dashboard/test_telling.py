"""Events and failures in plain words."""

from typing import Any

import pytest

from app.dashboard import telling
from scheduler.events import Event

ERROR = {"code": "x", "message": "it broke"}


def told(type_: str, actor: str | None = None, *, for_operator: bool = True, **data: Any) -> str:
    return telling.words(Event(1, 0.0, type_, "job_1", "acme", actor, data), for_operator=for_operator)


@pytest.mark.parametrize(
    ("type_", "data", "words"),
    [
        ("job.queued", {"plan": "fp16"}, "Submitted, with plan fp16"),
        ("job.running", {"attempt": 2, "gpu": "GPU-0"}, "Attempt 2 began on GPU GPU-0"),
        ("job.requeued", {"outcome": "released"}, "Given back to the queue; it costs no attempt"),
        ("job.requeued", {"outcome": "retried", "error": ERROR}, "Back in the queue after an error: it broke"),
        ("job.requeued", {"outcome": "expired"}, "Back in the queue: its worker died or fell silent"),
        ("job.replanned", {"plan": "int8", "reason": "memory"}, "Now with plan int8: memory"),
        ("job.cancel_requested", {}, "Asked to stop, to be cancelled"),
        ("job.cancel_requested", {"reason": "deadline_exceeded"}, "Asked to stop: its deadline has passed"),
        ("job.checkpoint_discarded", {"reason": "other seed"}, "Its checkpoint was discarded: other seed"),
        ("job.result_expired", {}, "The video was deleted: its time was over"),
        ("job.succeeded", {}, "Succeeded"),
        ("job.failed", {"error": ERROR}, "Failed: it broke"),
        ("job.of_a_later_version", {}, "Of a later version"),
        ("job.running", {}, "Running"),
        ("job.requeued", {}, "Requeued"),
        ("job.reprioritized", {"priority": None}, "Reprioritized"),
        ("job.reprioritized", {"priority": "high"}, "Reprioritized"),
        ("job.failed", {"error": "it broke"}, "Failed: it broke"),
        ("job.failed", {"error": {}}, "Failed"),
    ],
)
def test_an_event_is_a_sentence(type_: str, data: dict[str, Any], words: str) -> None:
    assert told(type_, **data) == words


def test_only_the_operator_is_told_who_and_why() -> None:
    assert told("job.preempted", "key_1 (ann)", reason="urgent") == "Asked to stop for now by key_1 (ann): urgent"
    assert told("job.preempted", "key_1 (ann)", for_operator=False, reason="urgent") == "Asked to stop for now"
    assert told("job.reprioritized", "key_1 (ann)", priority=2.0) == "Priority changed to 2 by key_1 (ann)"
    assert told("job.reprioritized", "key_1 (ann)", for_operator=False, priority=2.0) == "Priority changed to 2"


def test_every_failure_comes_with_something_to_do() -> None:
    assert "fewer frames" in telling.advice("out_of_memory")
    assert telling.advice("of_a_later_version").startswith("Retry it")
