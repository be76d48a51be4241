"""The transition table says what the transitions do."""

import pytest

from scheduler.states import TRANSITIONS, JobStatus


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(JobStatus)


@pytest.mark.parametrize("status", JobStatus)
def test_three_states_are_final(status: JobStatus) -> None:
    assert status.ended is (status in {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


def test_every_state_can_be_reached_and_every_job_can_end() -> None:
    reached = {JobStatus.QUEUED}
    while (more := reached.union(*(TRANSITIONS[status] for status in reached))) != reached:
        reached = more
    assert reached == set(JobStatus)
    for status in JobStatus:
        assert status.ended or any(target.ended for target in TRANSITIONS[status])
