"""`python -m app.demo`, for `make demo`: from nothing to a video file on any machine, in one command.

Starts the service with the tiny model on the CPU, submits an image it draws itself, fetches the video, and ends and
removes all that it started.
"""

import argparse
import io
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from PIL import Image, ImageDraw

from app.cli.console import FAILED, INTERRUPTED, OK, say
from app.cli.progress import Show, progress
from app.cli.wording import problem
from app.client import Client, ClientError, Job, ServerUnreachable, WaitTimeout

PROMPT = "the sun sets behind green hills, drifting clouds, calm evening light"
SEED = 7
SAMPLE_SIZE = (512, 512)
_LIMIT_SECONDS = 300.0
_STOP_SECONDS = 60.0
_SLICE_SECONDS = 5.0  # how often a wait looks whether the service is still there
_LOG_TAIL_LINES = 30


class DemoFailed(Exception):
    """The demo cannot go on; `str()` says why in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the video and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo.mp4"), help="default: %(default)s")
    parser.add_argument("--limit", type=float, default=_LIMIT_SECONDS, help="seconds; default: %(default)g")
    options = parser.parse_args(arguments)
    output: Path = options.output
    if not os.access(output.parent, os.W_OK | os.X_OK):
        parser.error(f"cannot write into the folder {output.parent}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    deadline = time.monotonic() + options.limit
    with tempfile.TemporaryDirectory(prefix="reelq-demo-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "service.log"
        try:
            with service(Path(folder) / "data", log, deadline) as (client, process):
                job = make_video(client, process, output, deadline)
        except (DemoFailed, ClientError, OSError) as error:
            _show_tail(log)
            say(f"demo failed: {error}")
            return FAILED
        except KeyboardInterrupt:
            say("demo: interrupted, all that was started is stopped")
            return INTERRUPTED
    _explain(job, output)
    return OK


def service_command(port: int, data: Path) -> list[str]:
    """Return the command that serves the tiny model on `port`, with its state in `data`."""
    flags = ["--host", "127.0.0.1", "--port", str(port), "--data", str(data), "--model", "tiny", "--device", "cpu"]
    return [sys.executable, "-m", "app.cli", "up", *flags]


@contextmanager
def service(data: Path, log: Path, deadline: float) -> Iterator[tuple[Client, "subprocess.Popen[bytes]"]]:
    """Run `reelq up` with the tiny model on a free port; stopped at the end, whatever happens."""
    port = _free_port()
    # Nothing of this machine's own configuration: the demo must not meet a real queue or database.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REELQ_")}
    environment["REELQ_CONFIG"] = os.devnull
    say("starting the service: reelq up --model tiny --device cpu (the first start loads torch and makes the model)")
    with log.open("wb") as sink:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the service in order.
        process = subprocess.Popen(
            service_command(port, data),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
            start_new_session=True,
        )
    try:
        with Client(f"http://127.0.0.1:{port}", api_key="") as client:
            _await_ready(client, process, deadline)
            yield client, process
    finally:
        _stop(process)


def make_video(client: Client, process: "subprocess.Popen[bytes]", output: Path, deadline: float) -> Job:
    """Submit the sample image, show the progress, and write the video to `output`; returns the finished job."""
    job = client.submit(sample_image(), PROMPT, seed=SEED)
    say(f"submitted {job['id']}: a drawn {SAMPLE_SIZE[0]}x{SAMPLE_SIZE[1]} image, and the prompt {PROMPT!r}")
    with progress() as show:
        job = _await_end(client, process, job["id"], show, deadline)
    if job["status"] != "succeeded":
        raise DemoFailed(problem(job))
    return client.download(job["id"], output)


def sample_image() -> bytes:
    """Draw an evening: sky, sun and three rows of hills; a PNG of `SAMPLE_SIZE` pixels, the same each time."""
    width, height = SAMPLE_SIZE
    image = Image.new("RGB", SAMPLE_SIZE)
    draw = ImageDraw.Draw(image)
    for y in range(height):
        draw.line([(0, y), (width, y)], fill=_blend((54, 84, 160), (255, 186, 120), y / (0.7 * height)))
    centre_x, centre_y, radius = 0.66 * width, 0.42 * height, 0.09 * width
    for glow in range(6, -1, -1):
        reach = radius * (1 + glow / 6)
        box = (centre_x - reach, centre_y - reach, centre_x + reach, centre_y + reach)
        draw.ellipse(box, fill=_blend((255, 236, 170), (246, 178, 122), glow / 6))
    rows = (((92, 120, 110), 0.58, 0.05, 1.5), ((62, 98, 78), 0.70, 0.06, 2.3), ((36, 70, 50), 0.83, 0.04, 3.1))
    for color, level, swing, waves in rows:
        ridge = [
            (x, height * (level + swing * math.sin(waves * math.tau * x / width + 9 * level))) for x in range(width + 1)
        ]
        draw.polygon([*ridge, (width, height), (0, height)], fill=color)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _blend(start: tuple[int, int, int], end: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    share = min(1.0, max(0.0, share))
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_ready(client: Client, process: "subprocess.Popen[bytes]", deadline: float) -> None:
    pause = 0.1
    while True:
        _check(process, deadline)
        try:
            if client.ready():
                return
        except ServerUnreachable:
            pass  # not listening yet
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)


def _await_end(client: Client, process: "subprocess.Popen[bytes]", job_id: str, show: Show, deadline: float) -> Job:
    while True:
        try:
            return client.wait(job_id, on_change=show, timeout=_SLICE_SECONDS)
        except WaitTimeout:
            _check(process, deadline)


def _check(process: "subprocess.Popen[bytes]", deadline: float) -> None:
    code = process.poll()
    if code is not None:
        raise DemoFailed(f"the service ended with exit code {code}")
    if time.monotonic() > deadline:
        raise DemoFailed("it took too long; see --limit")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the service: it ends its workers, and if it has to be killed they notice and end too."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"the service did not stop in {_STOP_SECONDS:.0f} s and is killed")
    finally:  # a second Ctrl-C comes here too
        process.kill()
        process.wait()


def _show_tail(log: Path) -> None:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    for line in lines[-_LOG_TAIL_LINES:]:
        say(f"  service: {line}")


def _explain(job: Job, output: Path) -> None:
    video: Any = job["video"]
    params = job["params"]
    typer.echo(output.absolute())
    typer.echo(
        f"{output.name} — {video['num_frames']} frames, {params['width']}x{params['height']}, "
        f"{video['duration_seconds']:.1f} s, by {job['model']}: tiny random weights, so the picture is noise; "
        "the code path (queue, lease, UNet, VAE, H.264) is the real one"
    )
    typer.echo("the real model, on an NVIDIA GPU: .venv/bin/reelq up --model ali-vilab/i2vgen-xl")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
