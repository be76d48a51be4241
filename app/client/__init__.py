"""A small synchronous client of the HTTP API, for the command line and for your own programs.

with Client("http://127.0.0.1:8000") as client:
    job = client.submit(Path("sea.jpg"), "waves roll in", num_frames=16)
    job = client.wait(job["id"])
    client.download(job["id"], Path("sea.mp4"))
"""

from app.client.errors import ApiError, ClientError, DownloadCorrupt, ServerUnreachable, WaitTimeout
from app.client.http import DEFAULT_URL, Client
from app.client.retry import Retry
from app.client.types import Event, Gpu, Job, Model, Page
from app.client.waiting import Polled

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "Client",
    "ClientError",
    "DownloadCorrupt",
    "Event",
    "Gpu",
    "Job",
    "Model",
    "Page",
    "Polled",
    "Retry",
    "ServerUnreachable",
    "WaitTimeout",
]
