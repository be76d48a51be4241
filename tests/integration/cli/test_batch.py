"""`reelq submit DIR`: every image of a folder becomes a job, once."""

import hashlib
import json
import signal
import subprocess
import sys
import threading

import pytest

from tests.support.api_objects import JOB_ID, make_job
from tests.support.scripted_api import VIDEO, Answer, Api


class Jobs(Api):
    """Makes a job for each key, which succeeds at once, or is refused where the request holds the words `refused`."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, str] = {}
        self.refused: bytes | None = None
        self.full = 0
        self.reused = False
        self.status = "succeeded"
        self.lock = threading.Lock()

    def answer(self, method, path, headers=None):
        with self.lock:
            if (method, path) == ("POST", "/v1/jobs"):
                return self.submitted(headers["Idempotency-Key"])
            job_id = path.split("/")[3]
            if path.endswith("/video"):
                return Answer(VIDEO)
            if job_id in self.jobs.values() and not path.endswith("/events"):
                return Answer(self.job_of(job_id, self.status), headers={"ETag": '"1"'})
            return super().answer(method, path)

    def submitted(self, key):
        if self.refused is not None and self.refused in self.requests[-1][2]:
            return Answer({"code": "not_an_image", "detail": "image is none"}, 415)
        if self.reused:
            return Answer({"code": "idempotency_key_reused", "detail": "used before with another payload"}, 422)
        if self.full:
            self.full -= 1
            return Answer({"code": "queue_full", "detail": "the queue is full"}, 429, {"Retry-After": "0"})
        self.jobs.setdefault(key, f"{JOB_ID[:-3]}{len(self.jobs):03}")
        return Answer(self.job_of(self.jobs[key], "queued"), 202)

    def job_of(self, job_id, status):
        job = make_job(status, sha256=hashlib.sha256(VIDEO).hexdigest(), video_bytes=len(VIDEO))
        return job | {"id": job_id}

    def bodies(self):
        return [body for method, path, body in self.requests if (method, path) == ("POST", "/v1/jobs")]


@pytest.fixture
def api():
    server = Jobs()
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "images"
    made.mkdir()
    for name in ("b.JPG", "a.png", "c.webp", "notes.md", ".a.png"):
        (made / name).write_bytes(f"the image {name}".encode())
    (made / "c.txt").write_text("its own words\n")
    return made


def test_every_image_is_a_job_with_its_prompt(reelq, api, folder):
    done = reelq("submit", str(folder), "waves", "--set", "num_frames=8", "--metadata", "for=me", "--batch", "one")
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["a.png", "b.JPG", "c.webp"]
    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == sorted(api.jobs.values())
    bodies = sorted(api.bodies(), key=lambda body: body.index(b"the image"))
    assert len(bodies) == 3
    for body in bodies:
        name = "a.png" if b"image a.png" in body else "b.JPG" if b"image b.JPG" in body else "c.webp"
        assert f'"batch": "one", "file": "{name}", "for": "me"'.encode() in body
        assert b'name="num_frames"\r\n\r\n8\r\n' in body
        assert (b"its own words" if name == "c.webp" else b"waves") in body
    assert "3 submitted, 0 failed" in done.stderr


def test_the_same_batch_again_submits_nothing_twice(reelq, api, folder):
    reelq("submit", str(folder), "--prompt", "waves", "--batch", "one")
    (folder / "d.png").write_bytes(b"a later image")
    again = reelq("submit", str(folder), "--prompt", "waves", "--batch", "one")
    assert len(again.stdout.splitlines()) == 4
    assert len(api.jobs) == 4
    reelq("submit", str(folder), "--prompt", "waves")
    assert len(api.jobs) == 8


def test_a_batch_that_has_the_image_with_another_prompt_says_so(reelq, api, folder):
    api.reused = True
    done = reelq("submit", str(folder), "foam", "--batch", "one")
    assert done.returncode == 1
    assert "batch one has this file already, with another prompt, image or settings" in done.stderr
    assert "use another --batch" in done.stderr
    assert "payload" not in done.stderr


def test_waiting_saves_each_video_under_its_images_name(reelq, api, folder, tmp_path, video):
    (folder / "a.jpeg").write_bytes(b"another a")
    done = reelq("submit", str(folder), "waves", "-o", "videos")
    assert done.returncode == 0, done.stderr
    saved = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert saved == ["a.jpeg.mp4", "a.png.mp4", "b.mp4", "c.mp4"]
    assert all(path.read_bytes() == video for path in (tmp_path / "videos").iterdir())
    assert "4 saved, 0 failed" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_what_is_refused_is_told_and_does_not_keep_the_others(reelq, api, folder, tmp_path):
    api.refused = b"the image b.JPG"
    done = reelq("submit", str(folder), "waves", "--wait", "--parallel", "1", "--json")
    assert done.returncode == 1
    lines = {json.loads(line)["file"].rpartition("/")[2]: json.loads(line) for line in done.stdout.splitlines()}
    assert set(lines) == {"a.png", "b.JPG", "c.webp"}
    assert (lines["b.JPG"]["job"], lines["b.JPG"]["error"]["code"]) == (None, "not_an_image")
    assert (lines["a.png"]["job"]["status"], lines["a.png"]["path"]) == ("succeeded", "a.mp4")
    assert "reelq: b.JPG: image is none (not_an_image)" in done.stderr
    assert "2 saved, 1 failed" in done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["a.mp4", "c.mp4"]


def test_jobs_that_fail_are_told(reelq, api, folder, tmp_path):
    api.status = "failed"
    done = reelq("submit", str(folder), "waves", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("3 attempts ran out of memory (out_of_memory)") == 3
    assert list(tmp_path.glob("*.mp4")) == []


def test_a_full_queue_is_waited_for(reelq, api, folder):
    api.full = 5
    assert reelq("submit", str(folder), "waves", "--parallel", "1").returncode == 0
    assert len(api.jobs) == 3


def test_a_server_that_goes_says_how_to_go_on(reelq, api, folder):
    done = reelq("submit", str(folder), "waves", "--batch", "one", REELQ_URL="http://127.0.0.1:1")
    assert done.returncode == 3
    assert "cannot reach the server" in done.stderr
    assert "--batch one" in done.stderr


def test_ctrl_c_leaves_the_jobs_and_says_how_to_go_on(api, folder, environment, tmp_path):
    api.status = "running"
    command = [sys.executable, "-m", "app.cli", "submit", str(folder), "waves", "--wait", "--deadline", "+2h"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert api.polled.wait(30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "3 of 3 are submitted and left as they are" in err
    assert "--batch 2" in err
    assert "--deadline 2" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["images"], "a.png has no a.txt beside it, so --prompt is needed"),
        (["images", "waves", "--prompt", "waves"], "say the prompt once"),
        (["images", "waves", "--idempotency-key", "k"], "a folder has --batch"),
        (["images", "waves", "--batch", "one", "--deadline", "+2h"], "say the time in full"),
        (["images", "waves", "--parallel", "0"], "--parallel"),
        (["images", "waves", "-o", "images/a.png"], "cannot be a folder"),
        (["empty", "waves"], "has no PNG, JPEG or WebP files"),
        (["images/a.png", "waves", "--batch", "one"], "one image has --idempotency-key"),
        (["images/a.png"], "say what should happen"),
        (["images", "waves", "--metadata", "words"], "is not key=value"),
    ],
)
def test_what_cannot_be_meant_reaches_no_server(reelq, api, folder, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    done = reelq("submit", *arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert api.requests == []
