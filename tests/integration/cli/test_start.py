"""Starting: fast, and for `serve` with one clear line when it cannot."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from app.client import Client, ServerUnreachable

HEAVY = ["torch", "httpx", "uvicorn", "fastapi", "pydantic", "sqlalchemy", "structlog", "rich.progress"]


def test_help_imports_nothing_heavy(environment):
    code = "import sys; from app.cli.root import build; build(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


@pytest.fixture
def taken():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield str(sock.getsockname()[1])


@pytest.mark.parametrize("command", ["serve", "up"])
def test_a_port_in_use_is_one_line(reelq_process, taken, command):
    done = reelq_process(command, "--port", taken)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"reelq: cannot listen on 127.0.0.1:{taken}: ")
    assert "--port" in last
    assert "Traceback" not in done.stderr


def test_a_host_beyond_loopback_is_refused_in_one_line(reelq_process):
    done = reelq_process("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104  it must not bind
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("reelq: refusing to listen on 0.0.0.0: ")


def test_a_store_that_cannot_be_used_is_one_line(reelq_process, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = reelq_process("up", "--port", "0", "--data", str(tmp_path / "file" / "data"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("reelq: cannot use the data directory ")
    assert "Traceback" not in done.stderr


def test_bad_settings_have_a_line_each_and_show_no_secret(reelq, tmp_path):
    config = tmp_path / "reelq.toml"
    config.write_text('database_url = 7\ntau_seconds = -1\n[frontend]\ncolour = "red"\n')
    done = reelq("serve", REELQ_CONFIG=str(config), REELQ_BLOB_URL="s3://key:hunter2@host")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("reelq: ") for line in lines)
    for words in (
        "setting database_url (REELQ_DATABASE_URL) must be a string",
        "setting tau_seconds (REELQ_TAU_SECONDS) must be greater than or equal to 1",
        "colour is not a setting",
    ):
        assert any(words in line for line in lines)
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("content", ["this is no TOML", None])
def test_a_settings_file_that_cannot_be_read_is_one_line(reelq, tmp_path, content):
    config = tmp_path / "reelq.toml"
    if content:
        config.write_text(content)
    done = reelq("serve", REELQ_CONFIG=str(config))
    assert done.returncode == 2
    assert done.stderr.startswith("reelq: cannot read the settings: ")
    assert len(done.stderr.splitlines()) == 1


def test_serve_answers_the_other_commands_and_ends_on_sigterm(reelq, environment, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--data", str(tmp_path / "data")]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            with Client(url) as client:
                for _ in range(40):  # each with its own bounded retries
                    try:
                        page = client.list()
                        break
                    except ServerUnreachable:
                        assert process.poll() is None
            assert page["data"] == []
            assert reelq("gpus", "--url", url).returncode == 0
            assert "no job job_0" in reelq("status", "job_0", "--url", url).stderr
        finally:
            os.kill(process.pid, signal.SIGTERM)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
