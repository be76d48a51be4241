"""What the address of the list of jobs asks for."""

import pytest
from pydantic import ValidationError

from app.dashboard.listing import Asked
from scheduler.errors import InvalidParameter
from scheduler.ids import new_id
from scheduler.states import JobStatus

JOB = new_id("job")


def test_nothing_asked_is_everything() -> None:
    asked = Asked()
    assert (asked.narrowed, asked.details, asked.newest, asked.link()) == (False, False, True, "/jobs")
    assert asked.filters(None)["statuses"] == ()


def test_empty_fields_of_a_form_ask_for_nothing() -> None:
    empty = dict.fromkeys(Asked.model_fields, "")
    assert Asked(**empty) == Asked()  # type: ignore[arg-type]  # as a query has it
    assert Asked(q="   ").q is None


def test_a_link_changes_what_it_names_and_begins_with_the_newest() -> None:
    asked = Asked(status=JobStatus.FAILED, q="red & blue", gpu="GPU/1", before=JOB)
    assert asked.link() == "/jobs?status=failed&q=red+%26+blue&gpu=GPU%2F1"
    assert asked.link(status=None, q=None, gpu=None) == "/jobs"
    assert asked.link(before=JOB) == f"/jobs?status=failed&q=red+%26+blue&gpu=GPU%2F1&before={JOB}"


def test_a_state_alone_does_not_narrow() -> None:
    assert not Asked(status=JobStatus.FAILED).narrowed
    assert (Asked(q="fox").narrowed, Asked(q="fox").details) == (True, False)
    assert (Asked(model="m").narrowed, Asked(model="m").details) == (True, True)
    assert not Asked(after=JOB).newest


def test_times_become_seconds() -> None:
    filters = Asked(created_after="1970-01-01T00:01:00Z", created_before="1970-01-01T01:00:00+00:30").filters("acme")
    assert (filters["created_after"], filters["created_before"], filters["tenant"]) == (60.0, 1800.0, "acme")
    with pytest.raises(InvalidParameter, match="RFC 3339"):
        Asked(created_after="yesterday").filters(None)


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "done"), ("q", "x" * 201), ("q", "a\x00b"), ("tenant", "A B"), ("before", "job_1"), ("after", "../x")],
)
def test_what_cannot_be_meant_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Asked.model_validate({field: value})
