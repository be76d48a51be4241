"""Telling the store how an attempt ended, and removing the files that nobody needs any more."""

from functools import partial

from scheduler import tracing
from scheduler.errors import LeaseLost, NotFound
from scheduler.learning import Observation
from scheduler.records import Checkpoint, Measured, Result
from scheduler.service import Scheduler
from scheduler.shape import Shape
from scheduler.states import JobStatus, Source
from scheduler.tracing import Tracer
from workers.attempt import Attempt, Ending
from workers.control import Cause
from workers.failures import INPUT_UNREADABLE, NUMERICAL_ERROR, OUT_OF_MEMORY
from workers.heartbeat import Heartbeat
from workers.insist import insist
from workers.spans import spans

OUTPUTS = ("video.mp4", "thumbnail.jpg", "preview.webp")


class Endings:
    """Ends attempts of one GPU. Each call may take as long as the store is away; the heartbeat goes on meanwhile."""

    def __init__(
        self, scheduler: Scheduler, heartbeat: Heartbeat, *, gpu_kind: str, tracer: Tracer = tracing.OFF
    ) -> None:
        self._leases = scheduler.leases
        self._queue = scheduler.queue
        self._blobs = scheduler.blobs
        self._footprints = scheduler.footprints
        self._heartbeat = heartbeat
        self._gpu_kind = gpu_kind
        self._tracer = tracer

    def succeeded(self, attempt: Attempt, result: Result) -> None:
        """Publish a result. Raises only when the store cannot be told; the lease then runs out."""
        measured = self._measured(attempt)
        attempt.pulse.ending()
        try:
            try:
                status = insist(lambda: self._leases.succeed(attempt.lease, result, measured))
                outcome = status.value
            except LeaseLost:
                # Or an earlier call of `succeed` did what it was told, and only its answer was lost.
                outcome = "succeeded" if insist(lambda: self._is_published(attempt)) else Cause.LEASE_LOST.value
            self._log(attempt, outcome, measured)
        finally:
            self._heartbeat.end(attempt.pulse)
        if outcome == JobStatus.SUCCEEDED:
            self._learn(attempt, measured)
        else:
            self._delete_outputs(attempt)
        if outcome != Cause.LEASE_LOST.value:  # then what is there is another attempt's to use
            self._tidy(attempt)

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """End an attempt that made no video. Raises only when the store cannot be told."""
        measured = self._measured(attempt)
        keep: Checkpoint | None = None
        try:
            if ending.cause not in (Cause.LEASE_LOST, Cause.CANCEL):
                keep = attempt.keeper.final(ending.snapshot)
            attempt.pulse.ending()
            try:
                outcome, keeps = insist(partial(self._settle, attempt, ending, measured, keep))
            except LeaseLost:
                outcome, keeps = Cause.LEASE_LOST.value, True
            self._log(attempt, outcome, measured, ending)
        finally:
            self._heartbeat.end(attempt.pulse)  # not before: while the store is away the lease must not run out
        self._delete_outputs(attempt)
        if outcome == Cause.LEASE_LOST.value:
            return
        if keeps:
            attempt.keeper.tidy(keep)
        else:
            self._tidy(attempt)

    def _settle(
        self, attempt: Attempt, ending: Ending, measured: Measured, keep: Checkpoint | None
    ) -> tuple[str, bool]:
        """Tell the store; returns the outcome, and whether the job may need its checkpoint again."""
        lease, error = attempt.lease, ending.error
        if ending.cause is Cause.LEASE_LOST:
            return ending.cause.value, True
        if ending.cause is Cause.CANCEL:
            self._leases.cancelled(lease, measured)
            return ending.cause.value, False
        if error is None:
            status = self._leases.release(lease, checkpoint=keep, measured=measured)
            return (ending.cause or Cause.RELEASE).value, status is JobStatus.QUEUED
        if error.code == INPUT_UNREADABLE:
            self._leases.fail(lease, error, measured)
            return error.code, False
        if error.code == OUT_OF_MEMORY:
            stage = str(ending.stage or attempt.stage)
            status = self._leases.out_of_memory(lease, measured, checkpoint=keep, stage=stage)
        elif error.code == NUMERICAL_ERROR:
            status = self._leases.numerical_failure(lease, error, measured, checkpoint=keep)
        else:
            status = self._leases.retry(lease, error, measured, checkpoint=keep)
        return error.code, status is JobStatus.QUEUED

    def _measured(self, attempt: Attempt) -> Measured:
        return attempt.stopwatch.measured(
            vram_peak_bytes=attempt.vram_peak_bytes,
            working_peak_bytes=attempt.working_peak_bytes,
            sharing=attempt.sharing,
            energy_joules=attempt.energy_joules,
        )

    def _learn(self, attempt: Attempt, measured: Measured) -> None:
        """Let later predictions know what this job needed; one in company, or with other numbers, tells nothing."""
        if measured.sharing > 1 or attempt.safer or not measured.steps:
            return
        lease = attempt.lease
        self._footprints.observe(
            [
                Observation(
                    source=Source.ATTEMPT,
                    gpu_kind=self._gpu_kind,
                    model=lease.model,
                    plan=lease.plan,
                    shape_key=Shape.of(lease.params).key,
                    working_peak_bytes=measured.working_peak_bytes,
                    step_seconds=measured.step_seconds,
                    fixed_seconds=measured.fixed_seconds,
                )
            ]
        )

    def _is_published(self, attempt: Attempt) -> bool:
        try:
            result = self._queue.get(attempt.lease.job_id).result
        except NotFound:  # deleted meanwhile
            return False
        return result is not None and result.video_key.startswith(f"{output_prefix(attempt)}/")

    def _tidy(self, attempt: Attempt) -> None:
        """Remove all checkpoints of a job that has ended, and what its earlier attempts left."""
        attempt.keeper.tidy(None)
        for fence in range(1, attempt.lease.fence):
            self._blobs.delete_prefix(f"jobs/{attempt.lease.job_id}/{fence}")

    def _delete_outputs(self, attempt: Attempt) -> None:
        for name in OUTPUTS:
            self._blobs.delete(f"{output_prefix(attempt)}/{name}")

    def _log(self, attempt: Attempt, outcome: str, measured: Measured, ending: Ending | None = None) -> None:
        attempt.log.info(
            "attempt ended",
            outcome=outcome,
            run_seconds=round(measured.run_seconds, 3),
            steps=measured.steps,
            stages=dict(measured.stage_seconds),
            saves=attempt.keeper.saves,
            save_seconds=round(attempt.keeper.save_seconds, 4),
            **({"failure": ending.unexpected} if ending and ending.unexpected else {}),
        )
        if self._tracer.on and attempt.lease.traceparent is not None:
            self._tracer.record(attempt.lease.traceparent, *spans(attempt, outcome, measured, ending))


def output_prefix(attempt: Attempt) -> str:
    """Where the attempt's files go, in the blob store."""
    return f"jobs/{attempt.lease.job_id}/{attempt.lease.fence}"
