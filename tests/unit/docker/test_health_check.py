"""The front end image's health check, run against a server on loopback."""

import http.server
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from tests.unit.docker.parsing import ROOT, image_instructions, parse_instruction, parse_stages


@contextmanager
def server(status):
    """Answer every GET on a free port of loopback with `status`; yields the port and the paths asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield httpd.server_port, asked
        finally:
            httpd.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_front_end_health_check_follows_healthz(status, healthy):
    stages = parse_stages((ROOT / "docker" / "frontend.Dockerfile").read_text())
    (check,) = [i for i in image_instructions(stages) if i.name == "HEALTHCHECK"]
    assert check.text.startswith("CMD [")
    python, *arguments = parse_instruction(check.text).words
    assert python == "python"
    with server(status) as (port, asked):
        proxied = {**os.environ, "REELQ_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        result = subprocess.run([sys.executable, *arguments], env=proxied, timeout=30)
    assert asked == ["/healthz"]
    assert (result.returncode == 0) is healthy
