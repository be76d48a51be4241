"""Clients of the HTTP API, for the command line and for your own programs: `Client`, and `AsyncClient` on asyncio.

with Client("http://127.0.0.1:8000") as client:
    job = client.submit("sea.jpg", "waves roll in", num_frames=16)
    job = client.wait(job["id"])
    client.download(job["id"], "sea.mp4")
"""

from app.client.asynchronous import AsyncClient
from app.client.endpoint import DEFAULT_URL
from app.client.errors import AccessDenied, ApiError, ClientError, DownloadCorrupt, ServerUnreachable, WaitTimeout
from app.client.sync import Client
from app.client.types import (
    Account,
    AdviceReport,
    CostReport,
    Delivery,
    Event,
    Gpu,
    Job,
    JobEstimate,
    JobOutcome,
    Model,
    Page,
    QueueStatus,
    WebhookEndpoint,
)
from app.client.waiting import Polled

__all__ = [
    "DEFAULT_URL",
    "AccessDenied",
    "Account",
    "AdviceReport",
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "CostReport",
    "Delivery",
    "DownloadCorrupt",
    "Event",
    "Gpu",
    "Job",
    "JobEstimate",
    "JobOutcome",
    "Model",
    "Page",
    "Polled",
    "QueueStatus",
    "ServerUnreachable",
    "WaitTimeout",
    "WebhookEndpoint",
]
