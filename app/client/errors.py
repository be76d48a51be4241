"""What the client raises; `str()` of each is one line fit for a user, and none ever holds an API key.

ClientError
├── ServerUnreachable   no answer from the server, after the retries that were allowed
├── ApiError            the server answered with a problem (carries `status`, `code`, `detail`)
│   └── AccessDenied    401 or 403: the API key is missing, unknown, or may not do that
├── DownloadCorrupt     the bytes that came are not the video that the job names
└── WaitTimeout         the job has not ended in the time the caller gave
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of every error that the client raises on purpose."""


class ServerUnreachable(ClientError):
    """No usable connection to `url`; `reason` is the last thing that went wrong."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot reach the server at {url} ({reason}); start one with `reelq up`")
        self.url = url
        self.reason = reason


class ApiError(ClientError):
    """The server refused or failed a request.

    `status` is the HTTP status, `code` the problem's stable code, `problem` the whole document (RFC 9457), and
    `retry_after_seconds` what the server asked for, or None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        problem: Mapping[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.problem = dict(problem or {"status": status, "code": code, "detail": detail})
        self.retry_after_seconds = retry_after_seconds


class AccessDenied(ApiError):
    """The server wants an API key, does not accept this one (401), or lets it not do that (403)."""


class DownloadCorrupt(ClientError):
    """The downloaded bytes do not match the job's SHA-256; nothing was left behind."""


class WaitTimeout(ClientError):
    """The job goes on, but the caller's time is over."""
