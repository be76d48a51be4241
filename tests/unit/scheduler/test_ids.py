"""Identifiers."""

import itertools
import time

import pytest

from scheduler import ids


def test_ids_have_their_form_and_are_unique() -> None:
    made = [ids.new_id("job") for _ in range(1000)]

    assert len(set(made)) == 1000
    assert all(ids.is_id(job_id) for job_id in made)
    assert all(len(job_id) == len("job_") + 26 for job_id in made)
    assert ids.is_id(ids.new_id("worker"))


def test_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(1_700_000_000, 0.25)
    monkeypatch.setattr(time, "time", lambda: next(seconds))

    made = [ids.new_id("job") for _ in range(200)]

    assert made == sorted(made)


def test_a_time_is_where_its_ids_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)

    assert ids.first_at("job", 1_700_000_000.25) <= ids.new_id("job") < ids.first_at("job", 1_700_000_000.251)
    assert ids.made_at(ids.first_at("job", 1_700_000_000.25)) == 1_700_000_000.25
    earliest, latest = ids.first_at("job", -1e12), ids.first_at("job", 1e12)
    assert ids.is_id(earliest)
    assert ids.is_id(latest)
    assert earliest < ids.new_id("job") < latest


@pytest.mark.parametrize(
    "text",
    ["", "job_", "job_" + "0" * 25, "job_" + "0" * 27, "job_" + "u" * 26, "job_" + "0" * 25 + "A", "gpu_" + "0" * 26,
     "job_" + "0" * 26 + "\n", "../job_" + "0" * 26, "job_" + "0" * 25 + "/"],
)  # fmt: skip
def test_nothing_else_is_an_id(text: str) -> None:
    assert not ids.is_id(text)


def test_an_id_tells_when_it_was_made() -> None:
    before = time.time()
    made = ids.made_at(ids.new_id("job"))
    assert before - 0.001 <= made <= time.time()
