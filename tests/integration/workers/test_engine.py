"""Attempts on the real tiny model, and every way one can be stopped: what is published, and what is left."""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import av
import pytest
from PIL import Image

from scheduler.states import DrainMode, JobStatus
from tests.support.worker_host import TINY
from workers.control import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.workers.conftest import Bench

_FIVE_STEPS = replace(TINY, num_inference_steps=5)


def test_a_job_succeeds_and_its_files_are_published(bench: "Bench") -> None:
    job_id = bench.submit(replace(TINY, num_frames=3))
    assert bench.run(bench.claim()) == "succeeded"
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error) == (JobStatus.SUCCEEDED, 1, None)
    assert bench.outcomes(job_id) == ["succeeded"]
    assert bench.files(job_id) == ["1/preview.webp", "1/thumbnail.jpg", "1/video.mp4", "image.png"]
    result = job.result
    assert result is not None
    assert (result.video_key, result.thumbnail_key) == (f"jobs/{job_id}/1/video.mp4", f"jobs/{job_id}/1/thumbnail.jpg")
    video = bench.data_dir / "blobs" / result.video_key
    assert result.bytes == video.stat().st_size
    assert result.sha256 == hashlib.sha256(video.read_bytes()).hexdigest()
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(64, 64)] * 3
    assert (result.width, result.height, result.num_frames, result.fps) == (64, 64, 3, 8)
    assert result.duration_seconds == pytest.approx(3 / 8)
    with Image.open(bench.data_dir / "blobs" / result.thumbnail_key) as poster:
        assert (poster.format, poster.size) == ("JPEG", (64, 64))


def test_what_an_attempt_used_is_measured(bench: "Bench") -> None:
    job_id = bench.submit()
    bench.run(bench.claim())
    measured = bench.job(job_id).measured
    assert measured is not None
    assert measured.vram_peak_bytes is not None
    assert measured.vram_peak_bytes > 100 * 2**20  # torch is loaded here
    assert 0 < measured.run_seconds < 60


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(bench: "Bench") -> None:
    ids = [bench.submit(replace(TINY, seed=seed)) for seed in (5, 5, 6)]
    for _ in ids:
        bench.run(bench.claim())
    first, again, other = ((result := bench.job(job_id).result) and result.sha256 for job_id in ids)
    assert first == again != other


def test_a_cancel_ends_the_attempt_at_the_next_step(bench: "Bench") -> None:
    job_id = bench.submit(_FIVE_STEPS)

    def cancel(index: int) -> None:
        if index == 1:
            bench.scheduler.queue.cancel(job_id)
            bench.heard(Cause.CANCEL)

    bench.model.before_step = cancel
    assert bench.run(bench.claim()) == "cancel"
    assert bench.model.steps_done == [0, 1]
    assert bench.job(job_id).status is JobStatus.CANCELLED
    assert bench.outcomes(job_id) == ["cancelled"]
    assert bench.files(job_id) == ["image.png"]


def test_a_shutdown_gives_the_job_back_unharmed(bench: "Bench") -> None:
    job_id = bench.submit(_FIVE_STEPS)
    bench.model.before_step = lambda index: bench.shutdown.set() if index == 2 else None
    assert bench.run(bench.claim()) == "shutdown"
    assert bench.model.steps_done == [0, 1, 2]
    job = bench.job(job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert bench.outcomes(job_id) == ["released"]
    assert bench.files(job_id) == ["1/checkpoint_3.safetensors", "image.png"]
    bench.shutdown.clear()
    bench.model.before_step = lambda _index: None
    bench.run(bench.claim())
    assert bench.outcomes(job_id) == ["released", "succeeded"]
    assert bench.job(job_id).attempts == 1


def test_a_drain_gets_the_job_back_at_the_next_step(bench: "Bench") -> None:
    job_id = bench.submit(_FIVE_STEPS)

    def drain(index: int) -> None:
        if index == 1:
            bench.scheduler.fleet.drain(bench.worker.gpu_id, "new fans", "operator", mode=DrainMode.CHECKPOINT)
            bench.heard(Cause.RELEASE)

    bench.model.before_step = drain
    assert bench.run(bench.claim()) == "released"
    assert bench.model.steps_done == [0, 1]
    job = bench.job(job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert bench.outcomes(job_id) == ["released"]
    assert bench.files(job_id) == ["1/checkpoint_2.safetensors", "image.png"]


def test_a_cancel_that_comes_while_the_file_is_published_wins(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit()
    put_file = bench.scheduler.blobs.put_file

    def put_and_cancel(key: str, path: "Path") -> None:
        put_file(key, path)
        if key.endswith("thumbnail.jpg"):
            bench.scheduler.queue.cancel(job_id)

    monkeypatch.setattr(bench.scheduler.blobs, "put_file", put_and_cancel)
    assert bench.run(bench.claim()) == "cancelled"
    assert bench.job(job_id).status is JobStatus.CANCELLED
    assert bench.job(job_id).result is None
    assert bench.files(job_id) == ["image.png"]


@pytest.mark.parametrize("moment", ["between steps", "at the last moment"])
def test_a_lost_lease_publishes_nothing_and_leaves_the_new_attempt_alone(
    moment: str, bench: "Bench", monkeypatch: pytest.MonkeyPatch, tmp_path: "Path"
) -> None:
    job_id = bench.submit(_FIVE_STEPS)
    other = bench.add_worker()
    put_file = bench.scheduler.blobs.put_file
    taken = []

    def steal() -> None:
        bench.scheduler.leases.expire_worker(bench.worker.id)
        taken.append(bench.claim(other))
        (tmp_path / "theirs").write_bytes(b"the new attempt's")
        put_file(f"jobs/{job_id}/2/video.mp4", tmp_path / "theirs")

    def steal_at_a_step(index: int) -> None:
        if index == 1 and not taken:
            steal()
            bench.heard(Cause.LEASE_LOST)

    def steal_after_publishing(key: str, path: "Path") -> None:
        put_file(key, path)
        if key == f"jobs/{job_id}/1/thumbnail.jpg":
            steal()

    if moment == "between steps":
        bench.model.before_step = steal_at_a_step
    else:
        monkeypatch.setattr(bench.scheduler.blobs, "put_file", steal_after_publishing)
    assert bench.run(bench.claim()) == "lease_lost"
    assert bench.model.steps_done == ([0, 1] if moment == "between steps" else [0, 1, 2, 3, 4])
    assert bench.files(job_id) == ["2/video.mp4", "image.png"]
    assert bench.job(job_id).status is JobStatus.RUNNING
    assert bench.run(taken[0]) == "succeeded"
    assert bench.outcomes(job_id) == ["expired", "succeeded"]
    assert bench.files(job_id) == ["2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png"]


def test_what_a_killed_attempt_left_behind_goes_with_the_next(bench: "Bench", tmp_path: "Path") -> None:
    job_id = bench.submit()
    killed = bench.claim()
    (tmp_path / "half").write_bytes(b"a video nobody will ever see")
    bench.scheduler.blobs.put_file(f"jobs/{job_id}/{killed.fence}/video.mp4", tmp_path / "half")
    bench.scheduler.leases.release(killed)
    assert bench.run(bench.claim()) == "succeeded"
    assert bench.files(job_id) == ["2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png"]
