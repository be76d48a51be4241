"""The whole service as a user starts it: `reelq up` with real processes, on a free port, in a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from PIL import Image

_T = TypeVar("_T")
ENDED = ("succeeded", "failed", "cancelled")
TINY = {"width": 64, "height": 64, "num_frames": 2, "num_inference_steps": 1, "target_fps": 4, "seed": 7}
LONG = TINY | {"num_inference_steps": 999, "num_frames": 16}


class Service:
    """A running `reelq up`, or what else `command` names; `data_dir` outlives it."""

    command = "up"

    def __init__(self, data_dir: Path, models_dir: Path, **settings: object) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir.with_suffix(".log")
        self.environment = os.environ | {
            "REELQ_DATA_DIR": str(data_dir),
            "REELQ_MODELS_DIR": str(models_dir),
            "REELQ_MODEL": "tiny",
            "REELQ_DEVICE": "cpu",
            "REELQ_CPU_MEMORY_BYTES": str(3 * 2**30),
            "REELQ_CPU_THREADS": "1",
            "REELQ_BATCH_JOBS": "1",  # whether a waiting job joins a running one would be a matter of timing
            "REELQ_MIN_FREE_DISK_BYTES": "0",
            "REELQ_PLACE_SECONDS": "0",
            **{f"REELQ_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ever: set[psutil.Process] = set()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def start(self, *, ready: bool = True) -> "Service":
        """Start `reelq up`; with `ready`, wait until a worker can take jobs."""
        command = [sys.executable, "-m", "app.cli", self.command, "--port", str(self.port)]
        with self.log_path.open("ab") as log:
            self._processes.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
            )
        wait_for(self.answers, "the front end to answer", self.log)
        if ready:
            wait_for(lambda: self.client.get("/readyz").status_code == 200, "a worker to be ready", self.log)
        self.family()
        return self

    @property
    def main(self) -> subprocess.Popen[bytes]:
        """The `reelq up` process started last."""
        return self._processes[-1]

    def answers(self) -> bool:
        """Whether /healthz answers; fails the test when `reelq up` has ended."""
        assert self.main.poll() is None, f"reelq up ended with {self.main.returncode}:\n{self.log()}"
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def family(self) -> list[psutil.Process]:
        """`reelq up`, its supervisor and its workers, as far as they live."""
        try:
            parent = psutil.Process(self.main.pid)
            self._ever |= {parent, *parent.children(recursive=True)}
        except psutil.NoSuchProcess:
            pass  # what it left behind is among those seen before
        return [process for process in self._ever if alive(process)]

    def process(self, word: str) -> psutil.Process | None:
        """The living process of this service whose command line has `word`: "supervisor" or "gpu-worker"."""
        found = [process for process in self.family() if word in command_line(process)]
        return found[0] if found else None

    def worker(self) -> psutil.Process:
        """The gpu-worker process."""
        return wait_for(lambda: self.process("gpu-worker"), "a gpu-worker process", self.log)

    def kill_all(self) -> None:
        """SIGKILL everything, as a power cut would."""
        for process in self.family():
            process.kill()
        self.main.wait(30)

    def stop(self) -> int:
        """SIGTERM, wait for the end, and return the exit code."""
        self.family()
        self.main.send_signal(signal.SIGTERM)
        return self.main.wait(60)

    def close(self) -> None:
        """End whatever still lives, whatever the test did."""
        for process in self.family():
            try:
                process.resume()
                process.kill()
            except psutil.NoSuchProcess:
                continue
        for started in self._processes:
            started.wait(30)
        self.client.close()

    def log(self) -> str:
        """What the service has written so far."""
        return self.log_path.read_text(errors="replace")[-6000:]

    def submit(self, params: Mapping[str, object] = TINY, **form: object) -> dict[str, Any]:
        """POST a job with a sample image; returns it."""
        fields = {key: str(value) for key, value in ({"prompt": "a red fox in the snow"} | {**params} | form).items()}
        response = self.client.post("/v1/jobs", data=fields, files={"image": ("in.png", picture(), "image/png")})
        assert response.status_code == 202, response.text
        return dict(response.json())

    def job(self, job_id: str) -> dict[str, Any]:
        """GET the job."""
        response = self.client.get(f"/v1/jobs/{job_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def wait(self, job_id: str, until: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """Poll until the job has ended, or `until` holds; returns it."""
        done = until or (lambda job: job["status"] in ENDED)

        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            assert done(job) or job["status"] not in ENDED, f"it ended before that: {job}\n{self.log()}"
            return job if done(job) else None

        return wait_for(look, f"{job_id} to get there", lambda: f"{self.job(job_id)}\n{self.log()}")

    def wait_denoising(self, job_id: str) -> dict[str, Any]:
        """Wait until the job is in the middle of denoising."""
        return self.wait(job_id, lambda job: job["stage"] == "denoising" and job["progress"]["step"] >= 2)

    def gpu(self) -> dict[str, Any]:
        """The only GPU."""
        (gpu,) = self.client.get("/v1/admin/gpus").json()["data"]
        return dict(gpu)


def wait_for(look: Callable[[], _T | None], what: str, explain: Callable[[], str] = str, timeout: float = 60.0) -> _T:
    """Return what `look` finds as soon as it is true; fails with `explain()` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}\n{explain()}"
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def picture(file_format: str = "PNG", size: tuple[int, int] = (160, 120)) -> bytes:
    """A real image file."""
    image = Image.merge(
        "RGB", [Image.linear_gradient("L").resize(size), *[Image.radial_gradient("L").resize(size)] * 2]
    )
    buffer = BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


def alive(process: psutil.Process) -> bool:
    """Whether a process runs: a zombie has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> str:
    """A process's command line; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
