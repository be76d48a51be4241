"""`reelq submit`, and what comes of waiting."""

import json
import signal
import subprocess
import sys

import pytest

from tests.support.api_objects import JOB_ID, make_job
from tests.support.scripted_api import Answer

CONTROL = {chr(code) for code in range(32)} - {"\n"}


def test_without_waiting_stdout_is_the_id(reelq, api, image):
    api.job(make_job())
    done = reelq("submit", str(image), "waves")
    assert (done.returncode, done.stdout) == (0, f"{JOB_ID}\n")
    assert "reelq status" in done.stderr


def test_parameters_are_sent(reelq, api, image):
    api.job(make_job())
    flags = ["--set", "num_frames=8", "--set", "negative_prompt=a=b", "--seed", "0", "--priority", "2.5"]
    flags += ["--window", "off_peak"]
    assert reelq("submit", str(image), "waves", *flags).returncode == 0
    ((_, _, body),) = api.requests
    sent = {"num_frames": "8", "negative_prompt": "a=b", "seed": "0", "priority": "2.5", "window": "off_peak"}
    for name, value in sent.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in body


def test_waiting_without_a_terminal_prints_plain_lines_and_fetches_the_video(
    reelq_process, api, image, finished, video, tmp_path
):
    api.job(make_job(), make_job("running", stage="loading"), make_job("running"), finished)
    done = reelq_process("submit", str(image), "waves", "--wait", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").read_bytes() == video
    for words in ("out.mp4", "16 at 8 per second", "256x256, 27.4 KiB", "2.0 s", finished["video"]["sha256"]):
        assert words in done.stdout
    lines = done.stderr.splitlines()
    assert [line.split("  ")[1].split(":")[0] for line in lines] == [
        "queued",
        "loading 40% step 4/10",
        "denoising 40% step 4/10",
        "succeeded",
    ]
    assert "busy with 1 running; starts in about 41.2 s" in lines[0]
    assert not CONTROL & set(done.stdout + done.stderr)


def test_the_default_file_is_named_after_the_job(reelq, api, image, finished, video, tmp_path):
    api.job(finished)
    assert reelq("submit", str(image), "waves", "--wait").returncode == 0
    assert (tmp_path / f"{JOB_ID}.mp4").read_bytes() == video


def test_json_is_the_finished_job_and_nothing_else(reelq_process, api, image, finished):
    api.job(make_job("running"), finished)
    done = reelq_process("submit", str(image), "waves", "--wait", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == finished


@pytest.mark.parametrize(
    ("state", "words"), [("failed", "3 attempts ran out of memory (out_of_memory)"), ("cancelled", "was cancelled")]
)
def test_a_job_that_does_not_succeed_exits_1_with_its_error(reelq_process, api, image, tmp_path, state, words):
    api.job(make_job(), make_job(state))
    done = reelq_process("submit", str(image), "waves", "-o", "out.mp4")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"reelq: {JOB_ID} {state}: ")
    assert words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out.mp4").exists()


def test_a_stream_of_events_is_followed(reelq, api, image, finished, tmp_path):
    api.job(make_job(), finished)
    api.stream(make_job(), make_job("running"), finished)
    done = reelq("submit", str(image), "waves", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert "denoising 40% step 4/10" in done.stderr
    looks = [path for _, path, _ in api.requests if "/video" not in path]
    assert looks == ["/v1/jobs", f"/v1/jobs/{JOB_ID}", f"/v1/jobs/{JOB_ID}/events", f"/v1/jobs/{JOB_ID}"]


def test_an_image_elsewhere_is_sent_as_its_url(reelq, api):
    api.job(make_job())
    flags = ["--deadline", "2030-01-31T18:00:00Z", "--webhook-url", "https://example.com/hook", "--preset", "fast"]
    done = reelq("submit", "https://example.com/sea.jpg", "--prompt", "waves", *flags, "--metadata", "a=b=c")
    assert done.returncode == 0, done.stderr
    ((_, _, body),) = api.requests
    assert json.loads(body) == {
        "image": "https://example.com/sea.jpg",
        "prompt": "waves",
        "deadline": "2030-01-31T18:00:00Z",
        "webhook_url": "https://example.com/hook",
        "preset": "fast",
        "metadata": {"a": "b=c"},
    }


def test_a_corrupt_video_exits_1_and_is_not_kept(reelq, api, image, finished, tmp_path):
    api.job(finished)
    api.on("GET", f"/v1/jobs/{JOB_ID}/video", Answer(b"something else"))
    done = reelq("submit", str(image), "waves", "-o", "out.mp4")
    assert done.returncode == 1
    assert "out.mp4 was not written" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [image.name]


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(api, image, environment, tmp_path):
    api.job(make_job("running"))
    command = [sys.executable, "-m", "app.cli", "submit", str(image), "waves", "--wait"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert api.polled.wait(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert f"reelq status {JOB_ID} --watch" in err
    assert f"reelq cancel {JOB_ID}" in err
    assert "Traceback" not in err
    assert [method for method, _, _ in api.requests].count("POST") == 1
