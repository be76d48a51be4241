"""Every call of the API that is one exchange, described once for both clients."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Unpack

from app.client.exchange import Call
from app.client.fields import known, route
from app.client.types import (
    Account,
    AdviceReport,
    AlertPage,
    CapacityStatus,
    CostReport,
    Delivery,
    Filters,
    Gpu,
    GpuPage,
    Job,
    JobEstimate,
    JobOutcome,
    Model,
    ModelPage,
    Page,
    Parameters,
    QueueStatus,
    WebhookEndpoint,
    WebhookSecret,
)


def get(job_id: str) -> Call[Job]:
    """Return a job as it is now."""
    return Call("GET", route("jobs", job_id))


def list_jobs(*, limit: int | None = None, cursor: str | None = None, **filters: Unpack[Filters]) -> Call[Page[Job]]:
    """Return a page of jobs, newest first; `next_cursor` of one page is the `cursor` of the next.

    With `q` a page may be short and yet have a next one.
    """
    return Call("GET", "/v1/jobs", _query(**filters, limit=limit, cursor=cursor))


def cancel(job_id: str) -> Call[Job]:
    """Ask for a job to be stopped and return it; a running one stops at its next step."""
    return Call("POST", route("jobs", job_id, "cancel"))


def cancel_many(job_ids: Sequence[str]) -> Call[Page[JobOutcome]]:
    """Ask for up to 100 jobs to be stopped; returns for each what became of it, also where it was refused."""
    return Call("POST", "/v1/jobs/cancel", {"json": {"ids": list(job_ids)}})


def estimate(**params: Unpack[Parameters]) -> Call[JobEstimate]:
    """Return what a job with these parameters would need, where it fits, and when it should start and finish."""
    return Call("POST", "/v1/estimates", {"json": known(params)})


def models() -> Call[ModelPage]:
    """Return the models that workers serve, with their limits and presets, and why they are held where they are."""
    return Call("GET", "/v1/models")


def model(model_id: str) -> Call[Model]:
    """Return one of the models that workers serve."""
    return Call("GET", route("models", model_id))


def account() -> Call[Account]:
    """Return who the API key is: its tenant, scopes, limits and what of them is used."""
    return Call("GET", "/v1/account")


def webhooks() -> Call[Page[WebhookEndpoint]]:
    """Return where webhooks go, and whether deliveries there are enabled."""
    return Call("GET", "/v1/webhooks")


def enable_webhook(endpoint_id: str) -> Call[WebhookEndpoint]:
    """Let deliveries go again to an endpoint that was disabled because it failed for long, and return it."""
    return Call("POST", route("webhooks", endpoint_id, "enable"))


def deliveries(
    *, job: str | None = None, status: str | None = None, limit: int | None = None, cursor: str | None = None
) -> Call[Page[Delivery]]:
    """Return a page of the log of deliveries, newest first; `status` is pending, delivered or failed."""
    return Call("GET", "/v1/webhooks/deliveries", _query(job=job, status=status, limit=limit, cursor=cursor))


def delivery(delivery_id: str) -> Call[Delivery]:
    """Return a delivery with each time it was tried."""
    return Call("GET", route("webhooks/deliveries", delivery_id))


def redeliver(delivery_id: str) -> Call[Delivery]:
    """Send a delivery again, and return it."""
    return Call("POST", route("webhooks/deliveries", delivery_id, "redeliver"), again=False)


def webhook_secret() -> Call[WebhookSecret]:
    """Return the secret that webhooks are signed with."""
    return Call("GET", "/v1/webhooks/secret")


def rotate_webhook_secret() -> Call[WebhookSecret]:
    """Replace the secret that webhooks are signed with, and return the new one."""
    return Call("POST", "/v1/webhooks/secret/rotate", again=False)


def gpus() -> Call[GpuPage]:
    """Return the GPUs."""
    return Call("GET", "/v1/admin/gpus")


def gpu(gpu_id: str) -> Call[Gpu]:
    """Return one GPU."""
    return Call("GET", route("admin/gpus", gpu_id))


def drain(gpu_id: str, reason: str, mode: str = "finish", **options: Any) -> Call[Gpu]:
    """Give a GPU no new jobs, let it empty, and return it.

    `options` are the API's further fields: `deadline_seconds`, `on_deadline`, `resume_after_seconds`, and `dry_run`
    to change nothing and return the GPU with a `preview`. None leaves one to the server.
    """
    body = known({"reason": reason, "mode": mode, **options})
    return Call("POST", route("admin/gpus", gpu_id, "drain"), {"json": body}, again=False)


def drain_many(gpu_ids: Sequence[str], reason: str, mode: str = "finish", **options: Any) -> Call[GpuPage]:
    """Drain several GPUs at the same moment, all or none, and return them."""
    body = known({"gpus": list(gpu_ids), "reason": reason, "mode": mode, **options})
    return Call("POST", "/v1/admin/drain", {"json": body}, again=False)


def resume(gpu_id: str) -> Call[Gpu]:
    """Give a drained GPU jobs again, and return it."""
    return Call("POST", route("admin/gpus", gpu_id, "resume"), again=False)


def resume_many(gpu_ids: Sequence[str]) -> Call[GpuPage]:
    """Give several GPUs jobs again at the same moment, all or none, and return them."""
    return Call("POST", "/v1/admin/resume", {"json": {"gpus": list(gpu_ids)}}, again=False)


def costs(*, since: datetime | str | None = None, until: datetime | str | None = None) -> Call[CostReport]:
    """Return what GPUs and jobs have cost: by default until now, and from 30 days before the end.

    Times are datetimes with a zone, or RFC 3339 text.
    """
    return Call("GET", "/v1/admin/costs", _query(since=since, until=until))


def advice(
    *,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    growth: float | str | None = None,
    card_price: float | None = None,
) -> Call[AdviceReport]:
    """Return whether to buy hardware or change software: by default from the last 7 days, and the growth measured.

    Times are datetimes with a zone, or RFC 3339 text; `growth` is `high`, `low` or a share a month.
    """
    return Call("GET", "/v1/admin/advice", _query(since=since, until=until, growth=growth, card_price=card_price))


def alerts() -> Call[AlertPage]:
    """Return what is wrong, then what was in the last day."""
    return Call("GET", "/v1/admin/alerts")


def alert_secret() -> Call[WebhookSecret]:
    """Return the secret that the webhook for alerts is signed with."""
    return Call("GET", "/v1/admin/alerts/secret")


def rotate_alert_secret() -> Call[WebhookSecret]:
    """Replace that secret, and return the new one; for a day the old one signs too."""
    return Call("POST", "/v1/admin/alerts/secret/rotate", again=False)


def capacity() -> Call[CapacityStatus]:
    """Return how many GPUs the work that is due wants, how many there are, and what was started and stopped."""
    return Call("GET", "/v1/admin/capacity")


def queue() -> Call[QueueStatus]:
    """Return the queue as a whole: whether it is paused, its depth, the GPUs that are kept for jobs."""
    return Call("GET", "/v1/admin/queue")


def pause_queue(reason: str) -> Call[QueueStatus]:
    """Let no queued job start, and return the queue; running jobs go on."""
    return Call("POST", "/v1/admin/queue/pause", {"json": {"reason": reason}}, again=False)


def resume_queue() -> Call[QueueStatus]:
    """Let queued jobs start again, and return the queue."""
    return Call("POST", "/v1/admin/queue/resume", again=False)


def prioritize(job_id: str, priority: float) -> Call[Job]:
    """Give a queued job another priority, and return it."""
    return Call("PATCH", route("admin/jobs", job_id), {"json": {"priority": priority}}, again=False)


def preempt(job_id: str, reason: str | None = None) -> Call[Job]:
    """Stop a running job at its next step, put it back into the queue with its checkpoint, and return it."""
    return Call("POST", route("admin/jobs", job_id, "preempt"), {"json": known({"reason": reason})}, again=False)


def hold_model(model_id: str, reason: str) -> Call[Model]:
    """Let no queued job of a model start, and return the model; running jobs go on."""
    return Call("POST", route("admin/models", model_id, "hold"), {"json": {"reason": reason}}, again=False)


def release_model(model_id: str) -> Call[Model]:
    """Let the jobs of a held model start again, and return the model."""
    return Call("POST", route("admin/models", model_id, "release"), again=False)


def _query(**values: Any) -> dict[str, Any]:
    return {"params": known(values)}
