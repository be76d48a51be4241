"""The progress bar on a real (pseudo) terminal of 80 columns."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from tests.support.api_objects import make_job

COLUMNS = 80


def read_all(descriptor: int) -> str:
    """Everything up to the end, which Linux reports as an error of a terminal whose other side is closed."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


@pytest.fixture
def on_terminal(environment, tmp_path):
    """Run `reelq` with all its streams on a terminal and return the exit code and all that was written."""

    def run(*arguments, **changes):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        command = [sys.executable, "-m", "app.cli", *arguments]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment | changes, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            text = read_all(ours)
        os.close(ours)
        return process.returncode, text

    return run


def test_the_bar_moves_and_the_cursor_comes_back(on_terminal, api, image, finished, video, tmp_path):
    api.job(make_job(), make_job("running"), finished)
    code, text = on_terminal("submit", str(image), "waves", "-o", "out.mp4")
    assert code == 0, text
    assert (tmp_path / "out.mp4").read_bytes() == video
    for words in ("queued", "position 2", "denoising", "step 4/10", "eta", "succeeded", "━", "sha256"):
        assert words in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_batch_has_a_bar_for_the_whole(on_terminal, api, finished, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"an image")
    api.job(make_job(), make_job("running"), finished)
    code, text = on_terminal("submit", "images", "waves", "-o", "videos")
    assert code == 0, text
    for words in ("━", "1 of 1 submitted", "1 saved", "a.png", "videos/a.mp4", "eta"):
        assert words in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_dumb_terminal_gets_plain_lines(on_terminal, api, image, finished):
    api.job(make_job("running"), finished)
    code, text = on_terminal("submit", str(image), "waves", "-o", "out.mp4", TERM="dumb")
    assert code == 0
    assert "denoising 40% step 4/10" in text
    assert "\x1b" not in text


def test_a_hostile_reason_cannot_steer_the_terminal(on_terminal, api, image, finished):
    queue = {"position": 1, "eta_seconds": None, "wait_reason": "busy \x1b]0;owned\x07 \x1b[2J"}
    api.job(make_job(queue=queue), finished)
    _, text = on_terminal("submit", str(image), "waves", "-o", "out.mp4")
    assert "owned" in text
    assert "\x1b]0;" not in text
    assert "\x1b[2J" not in text
