"""`python -m app.demo` around a stand-in for the service: it ends well or badly, and never leaves anything behind."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from app.demo import sample_image, service_command

DRIVER = """
import sys
from app import demo
stand_in, pidfile, mode, *arguments = sys.argv[1:]
demo.service_command = lambda port, data: [sys.executable, "-m", stand_in, str(port), pidfile, mode]
demo._STOP_SECONDS = 1.0
sys.exit(demo.main(arguments))
"""


class Demo:
    """One run of the demo as a process, with its temporary files in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], mode: str, arguments: list[str]) -> None:
        self.pidfile = folder / "pid"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        stand_in = "tests.support.demo_service"
        command = [sys.executable, "-c", DRIVER, stand_in, str(self.pidfile), mode, *arguments]
        environment = {**environment, "TMPDIR": str(self.temporary), "REELQ_DATABASE_URL": "postgresql://real"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        pid, database = self.pidfile.read_text().split()
        assert not psutil.pid_exists(int(pid))
        assert database == "None"  # a real configuration never reaches the demo's service
        assert list(self.temporary.iterdir()) == []
        return self.process.returncode, out, err


@pytest.fixture
def start(tmp_path, environment):
    started = []

    def begin(mode, *arguments):
        started.append(Demo(tmp_path, environment, mode, list(arguments)))
        return started[-1]

    yield begin
    for demo in started:
        demo.process.kill()
        demo.process.communicate()


def test_it_makes_the_video_and_says_what_it_is(start, tmp_path, video):
    code, out, err = start("work").finish()
    assert code == 0, err
    assert (tmp_path / "demo.mp4").read_bytes() == video
    path, line, _ = out.splitlines()
    assert path == str(tmp_path / "demo.mp4")
    assert line.startswith("demo.mp4 — 16 frames, 256x256, 2.0 s, by tiny-random-noise: ")
    assert "noise" in line
    assert "denoising 40% step 4/10" in err


def test_output_chooses_the_file(start, tmp_path, video):
    assert start("work", "--output", "other.mp4").finish()[0] == 0
    assert (tmp_path / "other.mp4").read_bytes() == video
    assert not (tmp_path / "demo.mp4").exists()


def test_a_service_that_dies_shows_the_end_of_its_log(start, tmp_path):
    code, out, err = start("die").finish()
    assert (code, out) == (1, "")
    assert "service: the model cannot be made" in err
    assert err.splitlines()[-1] == "demo failed: the service ended with exit code 3"
    assert not (tmp_path / "demo.mp4").exists()


def test_a_service_that_never_answers_is_killed_when_the_time_is_over(start):
    code, _, err = start("deaf", "--limit", "0.5").finish()
    assert code == 1
    assert "took too long" in err.splitlines()[-1]
    assert "is killed" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all(start, number):
    demo = start("hang")
    for line in demo.process.stderr:
        if "denoising" in line:
            break
    os.kill(demo.process.pid, number)
    code, _, err = demo.finish()
    assert code == 130
    assert "Traceback" not in err


def test_a_folder_that_is_not_there_is_found_before_the_work(environment, tmp_path):
    command = [sys.executable, "-m", "app.demo", "--output", str(tmp_path / "none" / "demo.mp4")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "cannot write into the folder" in done.stderr


def test_the_sample_image_is_a_picture_and_the_same_each_time():
    content = sample_image()
    assert content == sample_image()
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (512, 512)
        assert len(image.convert("RGB").getcolors(2**18)) > 100


def test_the_service_is_the_embedded_one_on_the_cpu(tmp_path):
    command = service_command(8123, tmp_path)
    assert command[1:4] == ["-m", "app.cli", "up"]
    for flags in (["--port", "8123"], ["--model", "tiny"], ["--device", "cpu"], ["--data", str(tmp_path)]):
        assert " ".join(flags) in " ".join(command)
