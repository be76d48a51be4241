"""Attempts that fail: what the caller is told, what is tried again, and what is left behind."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from structlog.testing import capture_logs

from scheduler.errors import StorageFull, StoreUnreachable
from scheduler.states import JobStatus
from tests.support.service import wait_for
from tests.support.worker_host import TINY
from workers import insist, publisher

if TYPE_CHECKING:
    from tests.integration.workers.conftest import Bench


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a store that stays away up at once, instead of after a minute."""
    monkeypatch.setattr(insist, "_INSIST_SECONDS", 0.5)


def _broken(kind: str) -> bytes:
    whole = (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x02\0\0\0\x90\x91h6", b"\0\0\0\0IEND\xaeB`\x82")
    return {"text": b"no image at all", "empty": b"", "no pixels": b"".join(whole), "cut off": whole[0]}[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "no pixels", "cut off"])
def test_a_broken_image_fails_the_job_at_once(kind: str, bench: "Bench") -> None:
    job_id = bench.submit(image=_broken(kind))
    assert bench.run(bench.claim()) == "input_unreadable"
    job = bench.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "input_unreadable"
    assert bench.outcomes(job_id) == ["failed"]


def test_a_missing_image_fails_the_job_at_once(bench: "Bench") -> None:
    job_id = bench.submit()
    bench.scheduler.blobs.delete_prefix(f"jobs/{job_id}")
    bench.run(bench.claim())
    assert (bench.job(job_id).status, bench.outcomes(job_id)) == (JobStatus.FAILED, ["failed"])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["GPU", "CPU"],
)
def test_memory_that_runs_out_is_told_as_that(error: Exception, bench: "Bench") -> None:
    job_id = bench.submit()
    bench.model.before_step = _raiser(error)
    assert bench.run(bench.claim()) == "out_of_memory"
    (attempt,) = bench.scheduler.queue.attempts(job_id)
    assert attempt.error is not None
    assert attempt.error.code == "out_of_memory"
    assert attempt.measured is not None


def test_one_jobs_memory_failure_does_not_touch_the_next(bench: "Bench") -> None:
    failing, healthy = bench.submit(), bench.submit()
    raiser = _raiser(torch.OutOfMemoryError("CUDA out of memory"))
    lease = bench.claim()
    bench.model.before_step = raiser
    bench.run(lease)
    bench.model.before_step = lambda _index: None
    while any(not bench.job(job_id).status.ended for job_id in (failing, healthy)):
        bench.run(bench.claim())
    assert {bench.job(job_id).status for job_id in (failing, healthy)} == {JobStatus.SUCCEEDED}


def test_a_failed_attempts_memory_is_free_when_it_has_ended(bench: "Bench") -> None:
    """Its traceback refers to every tensor of the failing step: the next job must not wait for a collection."""
    held = []

    def fail(_index: int) -> None:
        activations = torch.zeros(1000)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory")

    bench.submit()
    bench.model.before_step = fail
    lease = bench.claim()
    gc.disable()
    try:
        bench.run(lease)
        assert held[0]() is None
    finally:
        gc.enable()


def test_an_unexpected_error_stays_in_the_log(bench: "Bench") -> None:
    job_id = bench.submit()
    bench.model.before_step = _raiser(RuntimeError("the password is swordfish"))
    with capture_logs() as logged:
        assert bench.run(bench.claim()) == "internal_error"
    (attempt,) = bench.scheduler.queue.attempts(job_id)
    assert attempt.error is not None
    assert (attempt.error.code, attempt.error.message) == ("internal_error", "the worker failed with RuntimeError")
    (entry,) = (entry for entry in logged if entry["event"] == "attempt ended")
    assert "Traceback" in entry["failure"]
    assert "swordfish" in entry["failure"]
    assert entry["job_id"] == job_id


def test_a_finished_video_survives_a_database_that_is_away_for_a_moment(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit()
    error = StoreUnreachable("the database cannot be used: it restarts")
    monkeypatch.setattr(bench.scheduler.leases, "succeed", _failing(bench.scheduler.leases.succeed, error, times=2))
    assert bench.run(bench.claim()) == "succeeded"
    assert bench.files(job_id) == ["1/preview.webp", "1/thumbnail.jpg", "1/video.mp4", "image.png"]
    assert bench.outcomes(job_id) == ["succeeded"]


@pytest.mark.parametrize("method", ["put_file", "size"])
def test_blobs_that_are_away_for_a_moment_cost_nothing(
    method: str, bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit()
    blobs = bench.scheduler.blobs
    monkeypatch.setattr(blobs, method, _failing(getattr(blobs, method), StoreUnreachable("S3 restarts"), times=2))
    assert bench.run(bench.claim()) == "succeeded"
    assert bench.outcomes(job_id) == ["succeeded"]
    assert bench.files(job_id) == ["1/preview.webp", "1/thumbnail.jpg", "1/video.mp4", "image.png"]


def test_blobs_that_stay_away_are_the_reason_and_their_words_stay_here(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit()
    blobs = bench.scheduler.blobs
    monkeypatch.setattr(blobs, "put_file", _failing(blobs.put_file, StoreUnreachable("S3 is gone"), times=1000))
    assert bench.run(bench.claim()) == "store_unreachable"
    (attempt,) = bench.scheduler.queue.attempts(job_id)
    assert attempt.error is not None
    assert attempt.error.code == "store_unreachable"
    assert "S3" not in attempt.error.message
    assert bench.job(job_id).status is JobStatus.QUEUED


def test_a_shutdown_is_not_held_up_by_blobs_that_are_away(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insist, "_INSIST_SECONDS", 3600.0)
    job_id = bench.submit()
    blobs = bench.scheduler.blobs

    def away(_key: str, _path: object) -> None:
        bench.shutdown.set()
        raise StoreUnreachable("S3 is gone")

    monkeypatch.setattr(blobs, "put_file", away)
    assert bench.run(bench.claim()) == "shutdown"
    assert bench.outcomes(job_id) == ["released"]


def test_a_video_whose_publication_was_never_confirmed_stays_published(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database commits, and the answer is lost on its way: the call is made again, and must not undo it."""
    job_id = bench.submit()
    succeed = bench.scheduler.leases.succeed
    answers = [StoreUnreachable("server closed the connection unexpectedly")]

    def unconfirmed(*arguments: Any) -> Any:
        answer = succeed(*arguments)
        if answers:
            raise answers.pop()
        return answer

    monkeypatch.setattr(bench.scheduler.leases, "succeed", unconfirmed)
    assert bench.run(bench.claim()) == "succeeded"
    assert bench.job(job_id).status is JobStatus.SUCCEEDED
    assert bench.files(job_id) == ["1/preview.webp", "1/thumbnail.jpg", "1/video.mp4", "image.png"]


def test_a_full_blob_store_is_tried_again_later(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit()
    blobs = bench.scheduler.blobs
    with monkeypatch.context() as patch:
        full = StorageFull("the disk of the blob store has no room left")
        patch.setattr(blobs, "put_file", _failing(blobs.put_file, full, times=1))
        assert bench.run(bench.claim()) == "storage_full"
    assert bench.files(job_id) == ["1/checkpoint_2.safetensors", "image.png"], "only the decode is to be done again"
    assert bench.run(bench.claim()) == "succeeded"
    (first, second) = bench.scheduler.queue.attempts(job_id)
    assert first.error is not None
    assert (first.error.code, second.error) == ("storage_full", None)
    assert bench.files(job_id) == ["2/preview.webp", "2/thumbnail.jpg", "2/video.mp4", "image.png"]


def test_a_database_that_stays_away_ends_in_an_error_and_the_lease_runs_out(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit()
    lease = bench.claim()
    away = StoreUnreachable("the database cannot be used: it is gone")
    with monkeypatch.context() as patch:
        patch.setattr(bench.scheduler.leases, "succeed", _failing(bench.scheduler.leases.succeed, away, times=1000))
        with capture_logs() as logged:
            assert bench.run(lease) == "nothing"
    assert "an attempt's end could not be recorded" in {entry["event"] for entry in logged}
    assert bench.job(job_id).status is JobStatus.RUNNING
    bench.scheduler.leases.expire_worker(bench.worker.id)
    assert bench.run(bench.claim()) == "succeeded"
    assert bench.outcomes(job_id) == ["expired", "succeeded"]


def test_a_video_that_cannot_be_encoded_ends_its_attempt_once_and_its_decode_with_it(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is told to stop just then: the attempt has ended already."""
    job_id = bench.submit(replace(TINY, num_frames=6))
    decode = bench.model.execution.components.vae.decode
    decoded = []

    def stopped(*arguments: Any, **options: Any) -> Any:
        decoded.append(1)
        if len(decoded) == 3:
            wait_for(lambda: bench.outcomes(job_id) == ["retried"], "the attempt to end")
            bench.shutdown.set()
        return decode(*arguments, **options)

    def no_room(frames: Any, *_arguments: Any, **_options: Any) -> Any:
        next(frames)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.model.execution.components.vae, "decode", stopped)
    monkeypatch.setattr(publisher, "encode_mp4", no_room)
    with capture_logs() as logged:
        assert bench.run(bench.claim()) == "internal_error"
    assert [entry["event"] for entry in logged].count("attempt ended") == 1
    assert len(decoded) < 6
    assert bench.files(job_id) == ["1/checkpoint_2.safetensors", "image.png"]


def test_an_encoder_that_fails_when_it_is_stopped_does_not_end_the_attempt_too(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit()
    decode = bench.model.execution.components.vae.decode

    def stopped(*arguments: Any, **options: Any) -> Any:
        bench.shutdown.set()
        return decode(*arguments, **options)

    def no_room_for_the_end(frames: Any, *_arguments: Any, **_options: Any) -> Any:
        try:
            return list(frames)
        finally:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.model.execution.components.vae, "decode", stopped)
    monkeypatch.setattr(publisher, "encode_mp4", no_room_for_the_end)
    with capture_logs() as logged:
        assert bench.run(bench.claim()) == "shutdown"
    assert [entry["event"] for entry in logged].count("attempt ended") == 1
    assert bench.outcomes(job_id) == ["released"]


def test_a_source_that_breaks_costs_the_running_job_nothing(bench: "Bench") -> None:
    job_id = bench.submit(replace(TINY, num_inference_steps=5))
    claims = [bench.claim]
    bench.lookahead_seconds = 3600.0

    def claim(_want: object) -> Any:
        if not claims:
            raise RuntimeError("nobody foresaw this")
        return claims.pop()()

    bench._claim = claim  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="foresaw"):
        bench.run()
    assert bench.outcomes(job_id) == ["released"]
    assert bench.job(job_id).checkpoint_step == len(bench.model.passes)


def _raiser(error: Exception) -> Callable[[int], None]:
    def fail(index: int) -> None:
        if index == 1:
            raise error

    return fail


def _failing(method: Callable[..., Any], error: Exception, *, times: int) -> Callable[..., Any]:
    """`method`, after it has failed this many times."""
    left = [error] * times

    def call(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return method(*arguments)

    return call
