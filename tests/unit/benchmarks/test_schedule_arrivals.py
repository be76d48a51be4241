"""The streams that schedules are compared on."""

import itertools
from pathlib import Path

import pytest

from benchmarks.schedule.arrivals import FLOOD, drawn, recorded, stream
from benchmarks.schedule.fleet import work_seconds

HEAD = "gmt_create,groupId\n"


def test_a_seed_makes_the_same_stream_again() -> None:
    assert stream(drawn(50, seed=3), 0.9, seed=3) == stream(drawn(50, seed=3), 0.9, seed=3)
    assert stream(drawn(50, seed=3), 0.9, seed=3) != stream(drawn(50, seed=4), 0.9, seed=4)


@pytest.mark.parametrize("load", [0.7, 1.1])
def test_a_stream_is_stretched_to_its_load(load: float) -> None:
    jobs = stream(drawn(200, seed=1), load, seed=1)
    assert sum(work_seconds(job.params) for job in jobs) / jobs[-1].at == pytest.approx(load)


def test_the_flood_comes_at_one_moment_halfway() -> None:
    jobs = stream(drawn(200, seed=1), 0.9, seed=1)
    flood = [job for job in jobs if job.tenant == FLOOD]
    assert len(flood) == 20
    assert [job.at for job in flood] == pytest.approx([jobs[-1].at / 2] * 20)
    assert [job.number for job in jobs] == list(range(220))
    assert all(before.at <= after.at for before, after in itertools.pairwise(jobs))


def test_a_recording_gives_successive_stretches(tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(HEAD + "".join(f"2024-11-15 16:00:0{second},G{second}\n" for second in range(4)))
    first, second = recorded(path, jobs=2, streams=2)
    assert [user for _, user in (*first, *second)] == ["g0", "g1", "g2", "g3"]
    assert second[1][0] - first[0][0] == 3.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "2024-11-15 16:00:00,G0\n", "has 1 requests"),
        ("when,groupId\n" + "2024-11-15 16:00:00,G0\n" * 2, "no column 'gmt_create'"),
        (HEAD + "yesterday,G0\n" * 2, "yesterday"),
        (HEAD + "2024-11-15 16:00:00,G0\n" * 2, "at one moment"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        recorded(path, jobs=2, streams=1)
