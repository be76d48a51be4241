"""What a process writes to stderr: JSON, or readable lines where somebody reads them."""

import json
import os
import subprocess
import sys

_LOGS = """
import logging, sys, warnings, structlog
from scheduler import logs
logs.configure(sys.argv[1])
with structlog.contextvars.bound_contextvars(job_id="job_1"):
    structlog.get_logger().info("attempt started", attempt=1)
    logging.getLogger("diffusers").warning("a library's words")
    warnings.warn("a warning\\nof two lines")
"""


def test_elsewhere_than_on_a_terminal_each_line_is_a_json_object() -> None:
    done = subprocess.run([sys.executable, "-c", _LOGS, "auto"], capture_output=True, text=True, timeout=60)
    first, second, third = (json.loads(line) for line in done.stderr.splitlines())
    assert (first["event"], first["level"], first["attempt"]) == ("attempt started", "info", 1)
    assert (second["event"], second["level"]) == ("a library's words", "warning")
    assert "a warning\nof two lines" in third["event"]
    assert {line["job_id"] for line in (first, second, third)} == {"job_1"}
    assert first["timestamp"].endswith("Z")


def test_on_a_terminal_lines_are_for_reading() -> None:
    ours, terminal = os.openpty()
    with subprocess.Popen([sys.executable, "-c", _LOGS, "auto"], stderr=terminal) as process:
        os.close(terminal)
        assert process.wait(60) == 0
    with os.fdopen(ours, "rb") as screen:
        line = screen.readline().decode()
    assert not line.startswith("{")
    assert "attempt started" in line


def test_the_setting_overrules_that() -> None:
    done = subprocess.run([sys.executable, "-c", _LOGS, "console"], capture_output=True, text=True, timeout=60)
    line, *_ = done.stderr.splitlines()
    assert "attempt started" in line
    assert "job_id=job_1" in line
    assert "\x1b" not in line, "colours are for terminals"
