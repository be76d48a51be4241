"""Every problem code, and which calls may answer it: what the documentation lists under each call."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """A problem code: its status, and the `detail`, `field` and `limit` of an example."""

    status: int
    detail: str
    field: str | None = None
    limit: float | None = None

    def example(self, code: str) -> dict[str, Any]:
        """Return a whole problem document."""
        problem: dict[str, Any] = {
            "type": f"urn:reelq:problem:{code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": "/v1/jobs",
            "code": code,
            "request_id": "4f9a1c7e02b35d68",
        }
        if self.field is not None:
            problem["errors"] = [{"field": self.field, "message": self.detail}]
        if self.limit is not None:
            problem["limit"] = self.limit
        return problem


_JOB = "job_01k9zq4x8v7m2c5t3n6b1d0fgh"

REFUSALS: Mapping[str, Refusal] = {
    "malformed_request": Refusal(400, "the body is not valid JSON"),
    "incomplete_body": Refusal(400, "the multipart body ends before its closing boundary"),
    "invalid_host": Refusal(400, "the Host header is not a host name or address"),
    "missing_image": Refusal(
        400, "input_reference is required: I2VGen-XL turns an image into a video", "input_reference"
    ),
    "not_supported": Refusal(400, "variant must be video or thumbnail: there are no spritesheets", "variant"),
    "unauthorized": Refusal(401, "the API key is unknown, revoked or expired"),
    "insufficient_scope": Refusal(403, "this needs a key with the scope submit; yours has read"),
    "cross_site": Refusal(403, "requests from other web sites may not change anything here"),
    "not_found": Refusal(404, f"no job {_JOB}"),
    "video_not_ready": Refusal(404, f"job {_JOB} is running: its video is not ready"),
    "no_video": Refusal(404, f"job {_JOB} is cancelled and has no video"),
    "no_preview": Refusal(404, f"job {_JOB} was made without a preview"),
    "upload_timeout": Refusal(408, "the body took longer than 120 seconds to arrive", limit=120),
    "invalid_state": Refusal(409, f"job {_JOB} is running: cancel it first"),
    "result_expired": Refusal(410, f"the video of job {_JOB} has expired"),
    "events_expired": Refusal(410, "events up to 1023 are no longer kept", "after", 1023),
    "image_too_large": Refusal(413, "image must be at most 20971520 bytes", "image", 20_971_520),
    "too_many_pixels": Refusal(413, "image must have at most 40000000 pixels (width x height)", "image", 40_000_000),
    "body_too_large": Refusal(413, "the body must be at most 262144 bytes", limit=262_144),
    "not_an_image": Refusal(415, "image must be one of PNG, JPEG, WEBP, and is none of them", "image"),
    "unsupported_media_type": Refusal(415, "Content-Type must be multipart/form-data or application/json"),
    "range_not_satisfiable": Refusal(416, "Range must begin before the end of the file, 918273 bytes", limit=918_273),
    "host_not_allowed": Refusal(421, "this server answers to localhost, 127.0.0.1 and [::1] only"),
    "invalid_parameter": Refusal(422, "width must be from 256 to 1536, not 100", "width"),
    "unschedulable": Refusal(422, "no GPU could ever run this job: it needs 31.2 GiB and the largest has 22.9 GiB"),
    "idempotency_key_reused": Refusal(422, "this Idempotency-Key was used for another request"),
    "image_too_small": Refusal(422, "image must be at least 16 pixels on each side, not 8x8", "image", 16),
    "animated_image": Refusal(422, "image must be a still image, not an animation", "image"),
    "too_many_scans": Refusal(422, "image must have at most 100 scans", "image", 100),
    "too_many_parts": Refusal(422, "the image's file must have at most 1000 markers", "image", 1000),
    "corrupt_image": Refusal(422, "image cannot be decoded: truncated", "image"),
    "unsupported_image_source": Refusal(
        422, "image must be a data URI (data:image/png;base64,…) or an https URL", "image"
    ),
    "url_not_allowed": Refusal(422, "image must not lead to an address that is not public", "image"),
    "url_fetch_failed": Refusal(422, "image could not be fetched from its URL: it was answered 404", "image"),
    "queue_full": Refusal(429, "the queue is full: 10000 jobs are waiting", limit=10_000),
    "tenant_queue_full": Refusal(429, "50 jobs are waiting, as many as tenant acme may have", limit=50),
    "rate_limited": Refusal(429, "at most 60 submits a minute; the next may come in 4 s", limit=60),
    "headers_too_large": Refusal(431, "the request line and headers have more than 65536 bytes", limit=65_536),
    "internal_error": Refusal(500, "the server made an error; its log has it under request id 4f9a1c7e02b35d68"),
    "no_model": Refusal(503, "no GPU has registered a model yet"),
    "not_ready": Refusal(503, "no worker is ready: of 2 GPUs 1 is faulted, 1 is loading a model"),
    "store_unreachable": Refusal(503, "the database or the blob store cannot be used just now"),
    "too_many_uploads": Refusal(503, "this server takes in at most 32 submissions at once", limit=32),
    "storage_full": Refusal(507, "the blob store has 104857600 bytes free, less than the 536870912 it must keep"),
}

# What the layers around every route answer, in addition to what the route does.
EVERYWHERE = ("invalid_host", "body_too_large", "host_not_allowed", "headers_too_large", "internal_error")
WITH_A_KEY = ("unauthorized", "insufficient_scope", "rate_limited", "store_unreachable")
CHANGING = ("cross_site",)

_BODY = ("malformed_request", "upload_timeout", "invalid_parameter")
_QUEUEING = ("unschedulable", "queue_full", "tenant_queue_full", "no_model", "storage_full", "invalid_parameter")
_IMAGE = (
    "image_too_large", "too_many_pixels", "not_an_image", "unsupported_media_type", "image_too_small", "animated_image",
    "too_many_scans", "too_many_parts", "corrupt_image", "unsupported_image_source", "url_not_allowed",
    "url_fetch_failed",
)  # fmt: skip
_SUBMISSION = (*_BODY, "incomplete_body", *_IMAGE, *_QUEUEING, "idempotency_key_reused", "too_many_uploads")
_FILE = ("not_found", "video_not_ready", "no_video", "result_expired", "range_not_satisfiable")

# By operation id. A call that is not here answers nothing else.
RAISED: Mapping[str, tuple[str, ...]] = {
    "submit_job": _SUBMISSION,
    "list_jobs": ("invalid_parameter",),
    "get_job": ("not_found", "invalid_parameter"),
    "follow_job": ("not_found",),
    "cancel_job": ("not_found",),
    "retry_job": (
        "not_found", "invalid_state", "result_expired", *_QUEUEING, "idempotency_key_reused", "url_not_allowed",
        "too_many_uploads",
    ),
    "cancel_jobs": _BODY,
    "retry_jobs": (*_BODY, "storage_full", "too_many_uploads"),
    "delete_job": ("not_found", "invalid_state"),
    "get_image": ("not_found", "result_expired", "range_not_satisfiable"),
    "get_video": _FILE,
    "get_thumbnail": _FILE,
    "get_preview": (*_FILE, "no_preview"),
    "create_video": ("missing_image", *_SUBMISSION),
    "list_videos": ("invalid_parameter",),
    "retrieve_video": ("not_found",),
    "download_video": ("not_supported", *_FILE, "invalid_parameter"),
    "delete_video": ("not_found", "invalid_state"),
    "get_model": ("not_found", "no_model"),
    "estimate_job": (*_BODY, "no_model"),
    "list_webhooks": ("invalid_parameter",),
    "enable_webhook": ("not_found",),
    "list_webhook_deliveries": ("invalid_parameter",),
    "get_webhook_delivery": ("not_found",),
    "redeliver_webhook": ("not_found", "invalid_state"),
    "get_gpu": ("not_found",),
    "drain_gpu": (*_BODY, "not_found"),
    "resume_gpu": ("not_found",),
    "drain_gpus": (*_BODY, "not_found"),
    "resume_gpus": (*_BODY, "not_found"),
    "pause_queue": _BODY,
    "patch_job": (*_BODY, "not_found", "invalid_state"),
    "preempt_job": (*_BODY, "not_found", "invalid_state"),
    "hold_model": (*_BODY, "not_found", "no_model"),
    "release_model": ("not_found", "no_model"),
    "list_events": ("invalid_parameter", "events_expired"),
    "get_ready": ("not_ready",),
    "get_costs": ("invalid_parameter",),
    "get_advice": ("invalid_parameter",),
    "list_samples": ("not_found", "invalid_parameter"),
    "get_timeline": ("not_found", "invalid_parameter"),
}  # fmt: skip
