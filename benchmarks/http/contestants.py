"""Who takes part: this front end, the bare application, and the peer, each as real processes on a free port."""

import json
import os
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.http import wire
from benchmarks.http.processes import Meter, Process, free_port, running, wait_for_word, wait_until_it_answers
from benchmarks.queue import environments
from benchmarks.queue.reelq import TOTAL_BYTES, gpu_id, opened, register_fleet, register_worker, succeed
from scheduler.service import Scheduler
from scheduler.store.database import sqlite_url

QUEUED_JOBS = 100  # that wait while they are polled
PHOTO, SMALL = "100 KB", "64x64 pixels"  # submissions whose jobs tell when they started, by their image
_PROMPT = "a red kite over the sea"


@dataclass
class Server:
    """A contestant that serves: its port, what it uses, and the answers and requests of each kind of call."""

    process: Process
    port: int
    meter: Meter
    log: Path
    status: dict[str, int] = field(default_factory=dict)  # the status that a kind of call is answered with
    requests: dict[str, list[bytes]] = field(default_factory=dict)

    def get(self, path: str) -> httpx.Response:
        """Ask once; raises HTTPStatusError for anything but success."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=30).raise_for_status()


class Contestant(ABC):
    """One of those that are measured."""

    name: str
    notes: str
    polls = True  # whether it can be polled

    @abstractmethod
    def serving(self, folder: Path, photo: bytes) -> Any:
        """Serve while the block runs, on nothing but an empty folder; yields a `Server` that can take submissions."""

    @abstractmethod
    def prepare_polls(self, server: Server) -> None:
        """Have jobs queued and one succeeded, and set the requests that poll them."""


class Reelq(Contestant):
    """This front end, `reelq serve`, on SQLite and a folder, called without keys on loopback."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self.name = "reelq" if processes == 1 else f"reelq, {processes} processes"
        self.notes = (
            f"`reelq serve --processes {processes}`; SQLite, WAL, synchronous = FULL; images re-encoded and in files"
        )

    @contextmanager
    def serving(self, folder: Path, photo: bytes) -> Iterator["ReelqServer"]:
        """Serve, with a fleet of GPUs and no worker."""
        port, log = free_port(), folder / "log"
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--data", str(folder / "data")]
        command += ["--processes", str(self._processes)]
        with ExitStack() as stack:
            process = stack.enter_context(running(command, log))
            wait_until_it_answers(process, port, "/healthz", log)
            url = sqlite_url(folder / "data" / "reelq.db")
            scheduler = stack.enter_context(opened(url, folder / "data"))
            register_fleet(scheduler)
            server = ReelqServer(process, port, Meter(process), log, scheduler=scheduler, folder=folder)
            server.requests = {
                "form": [wire.form("/v1/jobs", _PROMPT, photo)],
                "json": [wire.as_json("/v1/jobs", _PROMPT, photo)],
                PHOTO: [wire.form("/v1/jobs", _PROMPT, photo)],
                SMALL: [wire.form("/v1/jobs", _PROMPT, wire.small_picture())],
            }
            server.status = dict.fromkeys(server.requests, 202)
            yield server

    def prepare_polls(self, server: Server) -> None:
        """Submit through HTTP, and end one job as a worker does."""
        assert isinstance(server, ReelqServer)
        first = server.submit()
        worker_id = register_worker(server.scheduler, gpu_id(0))
        lease = server.scheduler.queue.claim(worker_id, gpu_id(0), TOTAL_BYTES)
        assert lease is not None
        succeed(server.scheduler, lease)
        jobs = [server.submit() for _ in range(QUEUED_JOBS)]
        tag = server.get(f"/v1/jobs/{first}").headers["etag"]
        server.requests |= {
            "queued": [wire.request("GET", f"/v1/jobs/{job}") for job in jobs],
            "succeeded": [wire.request("GET", f"/v1/jobs/{first}")],
            "not modified": [wire.request("GET", f"/v1/jobs/{first}", {"if-none-match": tag})],
        }
        server.status |= {"queued": 200, "succeeded": 200, "not modified": 304}


@dataclass(kw_only=True)
class ReelqServer(Server):
    """The front end, and its scheduler as another process of the service has it."""

    scheduler: Scheduler
    folder: Path

    def submit(self) -> str:
        """Submit a job through HTTP and return its id."""
        form, file = {"prompt": _PROMPT}, {"image": ("photo.jpg", wire.small_picture())}
        answer = httpx.post(f"http://127.0.0.1:{self.port}/v1/jobs", data=form, files=file, timeout=30)
        return str(answer.raise_for_status().json()["id"])

    @contextmanager
    def working(self) -> Iterator[Process]:
        """Have a worker of its own process claim what comes, and yield it: it says `ran SECONDS` for each job."""
        command = [sys.executable, "-m", "benchmarks.http.worker", str(self.folder / "data")]
        with running(command, self.log, talks=True) as worker:
            wait_for_word(worker, "ready", self.log)
            yield worker


class Bare(Contestant):
    """The limit; its answers are this front end's own, as bytes."""

    name = "bare FastAPI"
    notes = "one process; reads the form or the JSON and answers with the same bytes; stores nothing"
    flags: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._answers: dict[str, str] | None = None

    @contextmanager
    def serving(self, folder: Path, photo: bytes) -> Iterator[Server]:
        """Serve."""
        port, log, answers = free_port(), folder / "log", folder / "answers.json"
        answers.write_text(json.dumps(self._canned()))
        command = [sys.executable, "-m", "benchmarks.http.bare", str(port), str(answers), *self.flags]
        with running(command, log) as process:
            wait_until_it_answers(process, port, "/v1/jobs/1", log)
            server = Server(process, port, Meter(process), log)
            server.requests = {
                "form": [wire.form("/v1/jobs", _PROMPT, photo)],
                "json": [wire.as_json("/v1/json/jobs", _PROMPT, photo)],
            }
            server.status = dict.fromkeys(server.requests, 202)
            yield server

    def prepare_polls(self, server: Server) -> None:
        """Set the requests; there is nothing to have ready."""
        server.requests |= {
            "queued": [wire.request("GET", f"/v1/jobs/job_{number:026}") for number in range(QUEUED_JOBS)],
            "succeeded": [wire.request("GET", "/v1/jobs/succeeded")],
            "not modified": [wire.request("GET", "/v1/jobs/succeeded", {"if-none-match": '"a"'})],
        }
        server.status |= {"queued": 200, "succeeded": 200, "not modified": 304}

    def _canned(self) -> dict[str, str]:
        """Ask a front end of this project, once."""
        if self._answers is None:
            with tempfile.TemporaryDirectory() as folder, Reelq().serving(Path(folder), wire.small_picture()) as real:
                Reelq().prepare_polls(real)
                answers: dict[str, str] = {}
                for kind in ("queued", "succeeded"):
                    path = real.requests[kind][0].split()[1].decode()
                    found = real.get(path)
                    answers |= {kind: found.text, "etag": found.headers["etag"]}
            self._answers = answers
        return self._answers


class BareWithImages(Bare):
    """The limit of whoever decodes each image and writes it anew."""

    name = "bare FastAPI, images"
    notes = "the same, but it decodes the image of a form and writes it anew, in a thread, as the front end does"
    flags = ("--images",)
    polls = False

    @contextmanager
    def serving(self, folder: Path, photo: bytes) -> Iterator[Server]:
        """Serve."""
        with super().serving(folder, photo) as server:
            del server.requests["json"]
            yield server


class BentoML(Contestant):
    """The peer; its tasks do nothing."""

    name = "BentoML"
    notes = "one worker process; tasks in an SQLite file that is deleted at start: a task does not outlive the server"

    @contextmanager
    def serving(self, folder: Path, photo: bytes) -> Iterator[Server]:
        """Serve."""
        port, log = free_port(), folder / "log"
        python = environments.python_of("bentoml")
        command = [str(python), "-m", "bentoml", "serve", "--quiet", "benchmarks.http.peers.bentoml:Animate"]
        environment = {
            "BENTOML_HOME": str(folder / "home"),
            "BENTOML_DO_NOT_TRACK": "true",
            "PATH": f"{python.parent}:{os.environ['PATH']}",
        }
        command += ["--host", "127.0.0.1", "--port", str(port)]
        with running(command, log, environment, talks=True) as process:
            wait_until_it_answers(process, port, "/readyz", log)
            server = Server(process, port, Meter(process), log)
            server.requests = {
                "form": [wire.form("/animate/submit", _PROMPT, photo)],
                "json": [wire.as_json("/animate_json/submit", _PROMPT, photo)],
                PHOTO: [wire.form("/animate/submit", "report", photo)],
                SMALL: [wire.form("/animate/submit", "report", wire.small_picture())],
            }
            server.status = dict.fromkeys(server.requests, 200)
            yield server

    def prepare_polls(self, server: Server) -> None:
        """Submit tasks that stay, after one that ends; there is no ETag to ask with."""
        done = self._submit(server, _PROMPT)
        stay = self._submit(server, "stay")
        server.requests |= {
            "queued": [wire.request("GET", f"/animate/status?task_id={stay}")],
            "succeeded": [wire.request("GET", f"/animate/status?task_id={done}")],
        }
        server.status |= {"queued": 200, "succeeded": 200}

    def _submit(self, server: Server, prompt: str) -> str:
        url = f"http://127.0.0.1:{server.port}/animate/submit"
        file = {"image": ("photo.jpg", wire.small_picture())}
        return str(
            httpx.post(url, data={"prompt": prompt}, files=file, timeout=30).raise_for_status().json()["task_id"]
        )
