"""The client: one method per call of the API, and `wait` and `download` on top of them."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import httpx

from app.client.download import save
from app.client.errors import ApiError
from app.client.events import stream
from app.client.fields import form, route, upload
from app.client.retry import ONCE, Retry
from app.client.transport import Transport, json_of
from app.client.types import Event, Gpu, Job, JobEstimate, Model, Page, QueueStatus
from app.client.waiting import Polled, follow, poll

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """A connection to one server.

    Every method raises `ServerUnreachable` or `ApiError`. Connection errors and 429, 502 and 503 are tried again,
    within `retry` and as the server's Retry-After says, but only where saying it twice does nothing twice. Not for
    several threads at once. `timeout` is in seconds and bounds each read; `sleep` and `clock` (monotonic) are there
    for tests. Raises ValueError if `base_url` is not http(s)://host.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = Transport(
            base_url, api_key=api_key, timeout=timeout, transport=transport, sleep=sleep, clock=clock
        )
        self._retry = retry or Retry()

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._transport.url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, image: Path | bytes, prompt: str, *, idempotency_key: str | None = None, **params: Any) -> Job:
        """Submit a job. `params` are the API's fields; None leaves one to the server.

        The idempotency key, a new one unless given, is what makes it safe to try again: one key is one job.
        Raises OSError if `image` cannot be read.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        with ExitStack() as stack:
            content: IO[bytes] | bytes = image if isinstance(image, bytes) else stack.enter_context(image.open("rb"))
            files = {"image": upload(image, content)}
            fields = {"prompt": prompt, **form(params)}
            return cast("Job", self._json("POST", "/v1/jobs", data=fields, files=files, headers=headers))

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return cast("Job", self._json("GET", route("jobs", job_id)))

    def poll(self, job_id: str, *, wait: float | None = None, etag: str | None = None) -> Polled:
        """Look at a job; with `wait` the server answers when it differs from `etag`, or after that many seconds."""
        return poll(self._transport, job_id, wait, etag, self._retry)

    def wait(self, job_id: str, on_change: Callable[[Job], None] | None = None, timeout: float | None = None) -> Job:
        """Follow a job to its end and return it; `on_change` gets every state seen, the last one included.

        Goes on when the server restarts. Raises `WaitTimeout` after `timeout` seconds; the job itself runs on.
        """
        return follow(self._transport, job_id, on_change, timeout)

    def jobs(self, status: str | None = None, limit: int | None = None, cursor: str | None = None) -> Page:
        """Return a page of jobs, newest first; `next_cursor` of one page is the `cursor` of the next."""
        query = {"status": status, "limit": limit, "cursor": cursor}
        return self._page("/v1/jobs", params=_known(query))

    def cancel(self, job_id: str) -> Job:
        """Ask for a job to be stopped and return it; a running one stops at its next step."""
        return cast("Job", self._json("POST", route("jobs", job_id, "cancel")))

    def delete(self, job_id: str) -> None:
        """Remove an ended job and its files."""
        self._transport.send("DELETE", route("jobs", job_id))

    def download(self, job_id: str, path: Path) -> Job:
        """Write a job's video to `path`, whole and checked or not at all, and return the job.

        Raises `DownloadCorrupt` if the bytes do not match the job's SHA-256, OSError if `path` cannot be written.
        """
        job = self.job(job_id)
        if job["video"] is None:
            raise ApiError(409, "no_video", f"job {job_id} is {job['status']} and has no video")
        sha256, source = job["video"]["sha256"], route("jobs", job_id, "video")
        self._transport.attempt(
            lambda: save(lambda sink: self._transport.stream(source, sink), path, sha256=sha256), self._retry
        )
        return job

    def models(self) -> Page:
        """Return the models that workers serve, with their limits and presets, and why they are held where they are."""
        return self._page("/v1/models")

    def estimate(self, **params: Any) -> JobEstimate:
        """Return what a job with these parameters would need, and where it fits."""
        return cast("JobEstimate", self._json("POST", "/v1/estimates", json=_known(params)))

    def gpus(self) -> Page:
        """Return the GPUs."""
        return self._page("/v1/admin/gpus")

    def gpu(self, gpu_id: str) -> Gpu:
        """Return one GPU."""
        return cast("Gpu", self._json("GET", route("admin/gpus", gpu_id)))

    def drain(self, gpu_id: str, reason: str, mode: str = "finish", **options: Any) -> Gpu:
        """Give a GPU no new jobs, let it empty, and return it.

        `options` are the API's further fields: `deadline_seconds`, `on_deadline`, `resume_after_seconds`, and `dry_run`
        to change nothing and return the GPU with a `preview`. None leaves one to the server.
        """
        body = _known({"reason": reason, "mode": mode, **options})
        return cast("Gpu", self._json("POST", route("admin/gpus", gpu_id, "drain"), retry=ONCE, json=body))

    def drain_many(self, gpu_ids: Sequence[str], reason: str, mode: str = "finish", **options: Any) -> Page:
        """Drain several GPUs at the same moment, all or none, and return them."""
        body = _known({"gpus": list(gpu_ids), "reason": reason, "mode": mode, **options})
        return self._page("/v1/admin/drain", method="POST", retry=ONCE, json=body)

    def resume(self, gpu_id: str) -> Gpu:
        """Give a drained GPU jobs again, and return it."""
        return cast("Gpu", self._json("POST", route("admin/gpus", gpu_id, "resume"), retry=ONCE))

    def resume_many(self, gpu_ids: Sequence[str]) -> Page:
        """Give several GPUs jobs again at the same moment, all or none, and return them."""
        return self._page("/v1/admin/resume", method="POST", retry=ONCE, json={"gpus": list(gpu_ids)})

    def events(self, after: int = 0, subject: str | None = None, *, follow: bool = False) -> Iterator[Event]:
        """Yield what happened past position `after`, of one job or GPU where `subject` names it, in order.

        With `follow` it goes on as things happen, and when the server restarts. `ApiError` with the code
        `events_expired` says that some are no longer kept.
        """
        return stream(self._transport, after, subject, follow=follow, retry=self._retry)

    def queue(self) -> QueueStatus:
        """Return the queue as a whole: whether it is paused, its depth, the GPUs that are kept for jobs."""
        return cast("QueueStatus", self._json("GET", "/v1/admin/queue"))

    def pause_queue(self, reason: str) -> QueueStatus:
        """Let no queued job start, and return the queue; running jobs go on."""
        return cast("QueueStatus", self._json("POST", "/v1/admin/queue/pause", retry=ONCE, json={"reason": reason}))

    def resume_queue(self) -> QueueStatus:
        """Let queued jobs start again, and return the queue."""
        return cast("QueueStatus", self._json("POST", "/v1/admin/queue/resume", retry=ONCE))

    def prioritize(self, job_id: str, priority: float) -> Job:
        """Give a queued job another priority, and return it."""
        return cast("Job", self._json("PATCH", route("admin/jobs", job_id), retry=ONCE, json={"priority": priority}))

    def preempt(self, job_id: str, reason: str | None = None) -> Job:
        """Ask for a running job back and return it: it stops at its next step, and goes on from there later."""
        body = _known({"reason": reason})
        return cast("Job", self._json("POST", route("admin/jobs", job_id, "preempt"), retry=ONCE, json=body))

    def hold_model(self, model: str, reason: str) -> Model:
        """Let no queued job of a model start, and return the model; running jobs go on."""
        body = {"reason": reason}
        return cast("Model", self._json("POST", route("admin/models", model, "hold"), retry=ONCE, json=body))

    def release_model(self, model: str) -> Model:
        """Let the jobs of a held model start again, and return the model."""
        return cast("Model", self._json("POST", route("admin/models", model, "release"), retry=ONCE))

    def ready(self) -> bool:
        """Tell whether the server says that it can serve; raises `ServerUnreachable` where nothing answers."""
        try:
            self._transport.send("GET", "/readyz")
        except ApiError:
            return False
        return True

    def _json(self, method: str, path: str, retry: Retry | None = None, **request: Any) -> Any:
        return json_of(self._transport.send(method, path, retry=retry or self._retry, **request))

    def _page(self, path: str, method: str = "GET", **request: Any) -> Page:
        return cast("Page", self._json(method, path, **request))


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
