"""The front end, the CLI and the scheduler start where the worker's packages, torch among them, are not installed."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.service import free_port, wait_for

pytestmark = pytest.mark.acceptance

# What an install without the `worker` extra lacks.
BLOCKER = """
import sys
for name in ("av", "diffusers", "huggingface_hub", "pynvml", "safetensors", "tokenizers", "torch", "transformers"):
    sys.modules[name] = None
"""


def test_front_end_serves_without_the_worker_extra(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    port = free_port()
    log = tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])}
    command = [sys.executable, "-m", "app.cli", "serve", "--data", str(tmp_path / "data"), "--port", str(port)]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as server:
        try:

            def answer() -> httpx.Response | None:
                assert server.poll() is None, log.read_text()
                try:
                    return httpx.get(f"http://127.0.0.1:{port}/readyz")
                except httpx.TransportError:
                    return None

            ready = wait_for(answer, "the front end to answer", log.read_text)
            assert ready.status_code == 503, "it serves, and says that there is no worker yet"
        finally:
            server.terminate()
            assert server.wait(30) == 0, log.read_text()


@pytest.mark.parametrize("module", ["app.cli", "app.client", "app.main", "scheduler.service", "workers.supervisor"])
def test_importing_does_not_load_torch(module: str) -> None:
    check = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers')))"
    assert subprocess.run([sys.executable, "-c", check], timeout=60).returncode == 0
