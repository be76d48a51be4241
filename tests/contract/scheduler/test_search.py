"""Searching jobs by the beginning of an id or by words of the prompt, and by the GPU that had them."""

import pytest

from scheduler import search
from scheduler.errors import InvalidParameter
from scheduler.ids import first_at
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from tests.support.databases import Clock
from tests.support.fleet import ERROR, new_job, register_gpu


@pytest.fixture
def queue(scheduler: Scheduler, clock: Clock) -> dict[str, str]:
    """Jobs by their prompts, each a second newer than the one before."""
    register_gpu(scheduler)
    made = {}
    for prompt, tenant in {
        "A red fox in the snow": "default",
        "a RED kite, 100% silk": "default",
        "the red fox's den": "studio",
        "ein Fuß im ÄTHER": "default",
        "underscore a_b": "default",
    }.items():
        clock.advance(1)
        new = new_job(id=first_at("job", clock.seconds), prompt=prompt, tenant=tenant)
        made[prompt] = scheduler.queue.submit(new).job.id
    return made


def found(scheduler: Scheduler, text: str, **filters: object) -> list[str]:
    return [job.prompt for job in scheduler.queue.find_jobs(text, **filters).jobs]


def test_all_words_must_be_there_in_any_case_and_order(scheduler: Scheduler, queue: dict[str, str]) -> None:
    assert found(scheduler, "red") == ["the red fox's den", "a RED kite, 100% silk", "A red fox in the snow"]
    assert found(scheduler, " FOX  red ") == ["the red fox's den", "A red fox in the snow"]
    assert found(scheduler, "FUSS äther") == ["ein Fuß im ÄTHER"]
    assert found(scheduler, "red whale") == []


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("0%", ["a RED kite, 100% silk"]),
        ("a_b", ["underscore a_b"]),
        ("r_d", []),
        ("'s \\", []),
        ("x's", ["the red fox's den"]),
    ],
)
def test_signs_mean_themselves(scheduler: Scheduler, queue: dict[str, str], text: str, prompts: list[str]) -> None:
    assert found(scheduler, text) == prompts


def test_the_beginning_of_an_id(scheduler: Scheduler, queue: dict[str, str]) -> None:
    prompts = list(reversed(queue))
    whole = queue["a RED kite, 100% silk"]
    assert found(scheduler, whole.upper()) == ["a RED kite, 100% silk"]
    assert found(scheduler, whole[:13]) == [one for one in prompts if queue[one].startswith(whole[:13])]
    assert found(scheduler, "job_") == prompts
    assert found(scheduler, "job_z") == []
    assert found(scheduler, f"{whole}0") == []


def test_the_other_filters_hold(scheduler: Scheduler, queue: dict[str, str]) -> None:
    assert found(scheduler, "fox", tenant="studio") == ["the red fox's den"]
    assert found(scheduler, queue["the red fox's den"], tenant="default") == []
    scheduler.queue.cancel(queue["A red fox in the snow"])
    assert found(scheduler, "fox", statuses=[JobStatus.CANCELLED]) == ["A red fox in the snow"]
    assert found(scheduler, "fox", statuses=list(JobStatus)[:3]) == ["the red fox's den"]
    oldest_first = found(scheduler, "red", ascending=True)
    assert oldest_first == ["A red fox in the snow", "a RED kite, 100% silk", "the red fox's den"]


def test_a_full_page_says_where_to_go_on(scheduler: Scheduler, queue: dict[str, str]) -> None:
    first = scheduler.queue.find_jobs("red", limit=2)
    assert first.next_id == first.jobs[-1].id
    second = scheduler.queue.find_jobs("red", limit=2, before_id=first.next_id)
    assert [job.prompt for job in second.jobs] == ["A red fox in the snow"]
    assert second.next_id is None
    assert scheduler.queue.find_jobs("red", limit=3).next_id is None


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_each_page_looks_at_so_many_jobs_and_together_they_look_at_all(
    scheduler: Scheduler, queue: dict[str, str], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(search, "_AT_ONCE", at_once)
    monkeypatch.setattr(search, "LOOKED_AT", 4)
    first = scheduler.queue.find_jobs("red")
    assert [job.prompt for job in first.jobs] == ["the red fox's den", "a RED kite, 100% silk"]
    assert first.next_id == queue["a RED kite, 100% silk"]
    second = scheduler.queue.find_jobs("red", before_id=first.next_id)
    assert ([job.prompt for job in second.jobs], second.next_id) == (["A red fox in the snow"], None)


@pytest.mark.parametrize("text", ["", "  ", "x" * 201])
def test_a_text_must_have_a_word_and_not_too_many(scheduler: Scheduler, text: str) -> None:
    with pytest.raises(InvalidParameter, match="q must have a word, and at most 200 characters"):
        scheduler.queue.find_jobs(text)


def test_a_gpu_chooses_the_jobs_that_it_has_had(scheduler: Scheduler) -> None:
    here, there = register_gpu(scheduler, "GPU-here"), register_gpu(scheduler, "GPU-there")
    first, second = (scheduler.queue.submit(new_job()).job.id for _ in range(2))
    scheduler.leases.fail(here.must_claim(), ERROR)
    there.must_claim()
    assert [job.id for job in scheduler.queue.find_jobs(gpu_id="GPU-here").jobs] == [first]
    assert [job.id for job in scheduler.queue.find_jobs(gpu_id="GPU-there", limit=1).jobs] == [second]
    assert scheduler.queue.find_jobs(gpu_id="GPU-nowhere").jobs == []
    assert scheduler.queue.find_jobs("kite", gpu_id="GPU-there", statuses=[JobStatus.RUNNING]).jobs[0].id == second
