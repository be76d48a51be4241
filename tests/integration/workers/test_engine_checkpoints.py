"""Attempts that go on where an earlier one left off: at every step, with the same bytes."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from scheduler.errors import StorageFull
from scheduler.states import DrainMode, JobStatus
from tests.support.worker_host import TINY
from workers import keeper
from workers.control import Cause

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench

_STEPS = 5
_FIVE_STEPS = replace(TINY, num_inference_steps=_STEPS)


def video(bench: "Bench", job_id: str) -> bytes:
    result = bench.job(job_id).result
    assert result is not None
    return (bench.data_dir / "blobs" / result.video_key).read_bytes()


@pytest.fixture
def after_each_step(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after each step, whatever it costs on a machine that is busy with other tests."""
    monkeypatch.setattr(keeper, "_COST_SHARE", 1e9)
    bench.checkpoint_seconds = 0.0


@pytest.fixture
def uninterrupted(bench: "Bench") -> bytes:
    """The video of a run that nothing stopped."""
    job_id = bench.submit(_FIVE_STEPS)
    assert bench.run() == "succeeded"
    return video(bench, job_id)


@pytest.mark.parametrize("done", range(1, _STEPS))
def test_a_job_that_was_given_back_goes_on_at_the_next_step_with_the_same_bytes(
    done: int, bench: "Bench", uninterrupted: bytes
) -> None:
    job_id = bench.submit(_FIVE_STEPS)
    bench.model.before_step = lambda index: bench.shutdown.set() if index == done - 1 else None
    assert bench.run(bench.claim()) == "shutdown"
    assert bench.model.steps_done == list(range(done))
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.checkpoint_step) == (JobStatus.QUEUED, 0, done)
    assert bench.files(job_id) == [f"1/checkpoint_{done}.safetensors", "image.png"]

    bench.shutdown.clear()
    bench.model.before_step = lambda _index: None
    assert bench.run() == "succeeded"
    assert bench.model.steps_done == list(range(done, _STEPS))
    job = bench.job(job_id)
    assert (job.resumed_from_step, job.checkpoint_step) == (done, None)
    assert video(bench, job_id) == uninterrupted
    assert bench.files(job_id) == ["2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png"]


def test_a_job_that_was_stopped_while_decoding_needs_no_step_any_more(
    bench: "Bench", uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit(_FIVE_STEPS)
    decode = bench.model.execution.components.vae.decode

    def stopped(*arguments: object, **options: object) -> object:
        bench.shutdown.set()
        return decode(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bench.model.execution.components.vae, "decode", stopped)
        assert bench.run(bench.claim()) == "shutdown"
    assert bench.job(job_id).checkpoint_step == _STEPS
    bench.shutdown.clear()
    assert bench.run() == "succeeded"
    assert bench.model.steps_done == []
    assert video(bench, job_id) == uninterrupted


@pytest.mark.usefixtures("after_each_step")
def test_a_killed_workers_job_goes_on_from_what_was_saved_by_the_way(bench: "Bench", uninterrupted: bytes) -> None:
    """The worker is taken for dead after its third step: what it saved before counts, what it does later does not."""
    job_id = bench.submit(_FIVE_STEPS)

    def die(index: int) -> None:
        if index == 3:
            bench.named(job_id, at_least=1)
            bench.scheduler.leases.expire_worker(bench.worker.id)
            bench.heard(Cause.LEASE_LOST)

    bench.model.before_step = die
    assert bench.run(bench.claim()) == "lease_lost"
    saved = bench.job(job_id).checkpoint_step
    assert saved is not None
    assert 1 <= saved <= 3
    bench.model.before_step = lambda _index: None
    assert bench.run(bench.claim()) == "succeeded"
    assert bench.model.steps_done == list(range(saved, _STEPS))
    assert bench.outcomes(job_id) == ["expired", "succeeded"]
    assert video(bench, job_id) == uninterrupted
    assert bench.files(job_id) == ["2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png"]


def test_a_drain_moves_a_job_from_one_gpu_to_another_with_its_checkpoint(bench: "Bench", uninterrupted: bytes) -> None:
    job_id = bench.submit(_FIVE_STEPS)

    def drain(index: int) -> None:
        if index == 2:
            bench.scheduler.fleet.drain(bench.worker.gpu_id, "new fans", "operator", mode=DrainMode.CHECKPOINT)
            bench.heard(Cause.RELEASE)

    bench.model.before_step = drain
    assert bench.run(bench.claim()) == "released"
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.checkpoint_step) == (JobStatus.QUEUED, 0, 3)

    bench.model.before_step = lambda _index: None
    bench.move_to_another_gpu()
    assert bench.run() == "succeeded"
    assert bench.model.steps_done == [3, 4]
    assert [each.gpu_id for each in bench.scheduler.queue.attempts(job_id)] == ["CPU-test", "CPU-test-another"]
    assert video(bench, job_id) == uninterrupted


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[: len(data) // 2], "its latents are"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "not those that were saved"),
        (lambda _data: None, "its file is gone"),
    ],
    ids=["cut short", "a bit flipped", "gone"],
)
def test_a_checkpoint_that_cannot_be_used_is_discarded_and_the_job_says_so(
    damage: object, told: str, bench: "Bench", uninterrupted: bytes
) -> None:
    job_id = bench.submit(_FIVE_STEPS)
    bench.model.before_step = lambda index: bench.shutdown.set() if index == 1 else None
    bench.run(bench.claim())
    bench.shutdown.clear()
    bench.model.before_step = lambda _index: None
    (path,) = (bench.data_dir / "blobs" / "jobs" / job_id).glob("*/checkpoint_*")
    data = damage(path.read_bytes())  # type: ignore[operator]
    path.unlink() if data is None else path.write_bytes(data)

    assert bench.run() == "succeeded"
    assert bench.model.steps_done == list(range(_STEPS))
    job = bench.job(job_id)
    (notice,) = job.notices
    assert notice.code == "checkpoint_discarded"
    assert told in notice.message
    assert job.resumed_from_step is None
    assert video(bench, job_id) == uninterrupted


@pytest.mark.usefixtures("after_each_step")
def test_checkpoints_that_cannot_be_stored_cost_the_job_nothing(
    bench: "Bench", uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit(_FIVE_STEPS)
    put_file = bench.scheduler.blobs.put_file

    def full(key: str, path: object) -> None:
        if "checkpoint" in key:
            raise StorageFull("no room left")
        put_file(key, path)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.scheduler.blobs, "put_file", full)
    assert bench.run() == "succeeded"
    assert video(bench, job_id) == uninterrupted


@pytest.mark.usefixtures("after_each_step")
def test_only_the_last_checkpoint_is_kept(bench: "Bench") -> None:
    job_id = bench.submit(replace(TINY, num_inference_steps=8))
    seen: list[int] = []

    def look(index: int) -> None:
        if index:
            bench.named(job_id, at_least=seen[-1] + 1 if seen else 1)
            seen.append(bench.job(job_id).checkpoint_step or 0)
            kept = [name for name in bench.files(job_id) if "checkpoint" in name]
            assert f"1/checkpoint_{seen[-1]}.safetensors" in kept
            assert len(kept) <= 2, "the one before it goes once the new one is named"

    bench.model.before_step = look
    assert bench.run() == "succeeded"
    assert seen == sorted(set(seen))
    assert [name for name in bench.files(job_id) if "checkpoint" in name] == []
