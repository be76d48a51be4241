"""The other commands: what they ask, print, and print with --json."""

import json

import pytest

from tests.support.api_objects import JOB_ID, make_account, make_estimate, make_gpu, make_job, make_model, make_page
from tests.support.scripted_api import Answer

GPU_ID = make_gpu()["id"]


@pytest.fixture
def answering(api):
    """Every route that the commands below ask."""
    job, gpu = Answer(make_job()), Answer(make_gpu(state="draining", reason="fan is loud"))
    api.on("GET", "/v1/jobs", Answer(make_page(make_job(), make_job("failed"))))
    api.on("GET", f"/v1/jobs/{JOB_ID}", job)
    api.on("POST", f"/v1/jobs/{JOB_ID}/cancel", job)
    api.on("POST", f"/v1/jobs/{JOB_ID}/retry", job)
    api.on("GET", "/v1/account", Answer(make_account()))
    api.on("POST", "/v1/estimates", Answer(make_estimate()))
    api.on("GET", "/v1/admin/gpus", Answer(make_page(make_gpu())))
    api.on("POST", f"/v1/admin/gpus/{GPU_ID}/drain", gpu)
    api.on("POST", f"/v1/admin/gpus/{GPU_ID}/resume", gpu)
    api.on("GET", "/v1/models", Answer(make_page(make_model())))
    api.on("POST", "/v1/admin/models/ali-vilab%2Fi2vgen-xl/hold", Answer(make_model(held="its numbers are bad")))
    api.on("POST", "/v1/admin/models/ali-vilab%2Fi2vgen-xl/release", Answer(make_model()))
    api.on("POST", f"/v1/admin/jobs/{JOB_ID}/preempt", Answer(make_job("running")))
    return api


@pytest.mark.parametrize(
    ("arguments", "target", "words"),
    [
        (["jobs", "--status", "queued", "--limit", "5"], "GET /v1/jobs?status=queued&limit=5", "out_of_memory"),
        (
            ["jobs", "--status", "failed", "--status", "cancelled", "--model", "m", "--tenant", "acme"],
            "GET /v1/jobs?status=failed&status=cancelled&model=m&tenant=acme",
            "out_of_memory",
        ),
        (["status", JOB_ID], f"GET /v1/jobs/{JOB_ID}", "position 2; all GPUs that fit are busy"),
        (["cancel", JOB_ID], f"POST /v1/jobs/{JOB_ID}/cancel", "queued, stops at its next step"),
        (["retry", JOB_ID], f"POST /v1/jobs/{JOB_ID}/retry", JOB_ID),
        (["estimate", "--set", "width=512"], "POST /v1/estimates", "9.0 GiB"),
        (["account"], "GET /v1/account", "key_01jd (demo): read, submit"),
        (["gpus"], "GET /v1/admin/gpus", "denoising 42% step 21/50"),
        (["drain", GPU_ID, "--reason", "fan is loud"], f"POST /v1/admin/gpus/{GPU_ID}/drain", "draining: fan is loud"),
        (["resume", GPU_ID], f"POST /v1/admin/gpus/{GPU_ID}/resume", "draining"),
        (["preempt", JOB_ID], f"POST /v1/admin/jobs/{JOB_ID}/preempt", "step 4/10; stops at its next step"),
        (["models"], "GET /v1/models", "fast         50  fits no GPU      nothing yet"),
        (
            ["models", "hold", "ali-vilab/i2vgen-xl", "--reason", "its numbers are bad"],
            "POST /v1/admin/models/ali-vilab%2Fi2vgen-xl/hold",
            "held: its numbers are bad",
        ),
        (
            ["models", "release", "ali-vilab/i2vgen-xl"],
            "POST /v1/admin/models/ali-vilab%2Fi2vgen-xl/release",
            "standard     50  1m 11s, 9.0 GiB",
        ),
    ],
)
def test_a_command_asks_and_shows(reelq, answering, arguments, target, words):
    done = reelq(*arguments)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    assert "\x1b" not in done.stdout
    ((method, path, _),) = answering.requests
    assert f"{method} {path}" == target
    done = reelq(*arguments, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == answering.answer(method, path.partition("?")[0]).body


def test_estimates_send_numbers_as_numbers(reelq, answering):
    reelq("estimate", "--set", "width=512", "--set", "guidance_scale=7", "--set", "later=1", "--model", "9")
    ((_, _, body),) = answering.requests
    assert json.loads(body) == {"width": 512, "guidance_scale": 7.0, "later": 1, "model": "9"}


def test_choices_of_the_caller_are_sent(reelq, api, image):
    api.job(make_job())
    assert reelq("submit", str(image), "waves", "--set", "preset=fast", "--set", "allow_int8=1").returncode == 0
    ((_, _, body),) = api.requests
    for name, value in ((b"preset", b"fast"), (b"allow_int8", b"true")):
        assert b'name="%s"\r\n\r\n%s\r\n' % (name, value) in body


@pytest.mark.parametrize(
    "arguments", [["hold", "m"], ["release", "m", "--reason", "a"], ["hold", "--reason", "a"], ["--reason", "a"]]
)
def test_half_an_order_about_models_asks_nothing(reelq, answering, arguments):
    assert reelq("models", *arguments).returncode == 2
    assert answering.requests == []


def test_drain_sends_its_reason(reelq, answering):
    reelq("drain", GPU_ID, "--reason", "fan is loud")
    ((_, _, body),) = answering.requests
    assert json.loads(body) == {"reason": "fan is loud", "mode": "finish"}


def test_drain_says_how(reelq, answering):
    how = ["--mode", "checkpoint", "--deadline", "5m", "--on-deadline", "kill", "--resume-after", "2h"]
    assert reelq("drain", GPU_ID, "--reason", "fan is loud", *how).returncode == 0
    ((_, _, body),) = answering.requests
    assert json.loads(body) == {
        "reason": "fan is loud",
        "mode": "checkpoint",
        "deadline_seconds": 300.0,
        "on_deadline": "kill",
        "resume_after_seconds": 7200.0,
    }


def test_a_dry_run_needs_no_reason_and_shows_what_would_happen(reelq, answering):
    job = {"job_id": JOB_ID, "ending": "released", "in_seconds": 4.0, "lost_seconds": 90.0}
    gpu = make_gpu(preview={"empty_in_seconds": 4.0, "jobs": [job]})
    answering.on("POST", f"/v1/admin/gpus/{GPU_ID}/drain", Answer(gpu))
    done = reelq("drain", GPU_ID, "--dry-run")
    assert f"{GPU_ID}  would be empty in about 4.0 s" in done.stdout
    assert "released  in 4.0 s    loses 1m 30s" in done.stdout
    ((_, _, body),) = answering.requests
    assert json.loads(body) == {"reason": "dry run", "mode": "finish", "dry_run": True}
    assert json.loads(reelq("drain", GPU_ID, "--dry-run", "--json").stdout) == gpu


@pytest.mark.parametrize("command", ["drain", "resume"])
def test_several_gpus_are_one_request(reelq, api, command):
    page = make_page(make_gpu(), make_gpu(id="GPU-1"))
    api.on("POST", f"/v1/admin/{command}", Answer(page))
    arguments = [command, GPU_ID, "GPU-1", *(["--reason", "why"] if command == "drain" else [])]
    done = reelq(*arguments)
    assert done.returncode == 0, done.stderr
    assert "GPU-1  NVIDIA H100" in done.stdout
    ((_, _, body),) = api.requests
    assert json.loads(body)["gpus"] == [GPU_ID, "GPU-1"]
    assert json.loads(reelq(*arguments, "--json").stdout) == page


def test_one_job_that_cannot_be_cancelled_does_not_keep_the_others(reelq, answering):
    done = reelq("cancel", "job_none", JOB_ID, "--json")
    assert done.returncode == 1
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["code"], second["id"]) == ("not_found", JOB_ID)


def test_deleting_says_what_is_gone(reelq, api):
    api.on("DELETE", f"/v1/jobs/{JOB_ID}", Answer(b"", 204))
    assert reelq("delete", JOB_ID).stdout == f"{JOB_ID}  deleted\n"
    done = reelq("delete", JOB_ID, "job_none", "--json")
    assert done.returncode == 1
    assert [json.loads(line).get("code") for line in done.stdout.splitlines()] == [None, "not_found"]


def test_a_search_goes_on_where_a_page_found_nothing(reelq, api):
    """A page looks at so many jobs only."""
    api.on("GET", "/v1/jobs", Answer(make_page(has_more=True, next_cursor="c1")), Answer(make_page(make_job())))
    assert JOB_ID in reelq("jobs", "--search", "red fox", "--gpu", "GPU-1").stdout
    first, second = (path for _, path, _ in api.requests)
    assert "q=red+fox&gpu=GPU-1" in first
    assert "cursor=c1" in second


def test_all_jobs_are_all_pages(reelq, api):
    pages = [make_page(make_job(id="job_1"), has_more=True, next_cursor="job_1"), make_page(make_job(id="job_2"))]
    for flags, count in ((["--all"], 2), (["--limit", "101"], 2)):
        api.on("GET", "/v1/jobs", *map(Answer, pages))
        page = json.loads(reelq("jobs", "--since", "2h", *flags, "--json").stdout)
        assert (len(page["data"]), page["has_more"]) == (count, False)
    first, second, *_ = (path for _, path, _ in api.requests)
    assert "limit=100" in first
    assert "created_after=20" in first
    assert "cursor=job_1" in second


def test_watching_with_json_prints_a_line_for_each_change(reelq, api):
    api.job(make_job(), make_job("running"), make_job("failed"))
    done = reelq("status", JOB_ID, "--watch", "--json")
    assert done.returncode == 1
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["queued", "running", "failed"]


def test_download(reelq, api, finished, video, tmp_path):
    api.job(finished)
    assert reelq("download", JOB_ID, "-o", str(tmp_path)).returncode == 0
    assert (tmp_path / f"{JOB_ID}.mp4").read_bytes() == video
    api.on("GET", f"/v1/jobs/{JOB_ID}/thumbnail", Answer(b"a picture"))
    done = reelq("download", JOB_ID, "--file", "thumbnail")
    assert (tmp_path / f"{JOB_ID}.jpg").read_bytes() == b"a picture"
    assert done.stdout == f"path  {JOB_ID}.jpg\n"


@pytest.mark.parametrize(("command", "words"), [("jobs", "no jobs"), ("gpus", "no GPU"), ("models", "no model")])
def test_an_empty_list_says_so_on_stderr(reelq, api, command, words):
    api.on("GET", "/v1/jobs", Answer(make_page()))
    api.on("GET", "/v1/admin/gpus", Answer(make_page()))
    api.on("GET", "/v1/models", Answer(make_page()))
    done = reelq(command)
    assert (done.returncode, done.stdout) == (0, "")
    assert words in done.stderr


def test_the_key_is_sent(reelq, api):
    api.on("GET", "/v1/jobs", Answer(make_page()))
    assert reelq("jobs", REELQ_API_KEY="secret").returncode == 0
    assert reelq("jobs", "--api-key", "another").returncode == 0
    assert api.authorization == ["Bearer secret", "Bearer another"]


@pytest.mark.parametrize(("key", "words"), [(None, "set REELQ_API_KEY"), ("rq_secret", "not known")])
def test_a_key_that_is_missing_or_wrong_is_one_line_without_it(reelq, api, key, words):
    api.on("GET", "/v1/jobs", Answer({"code": "unauthorized", "detail": "the key is not known"}, 401))
    done = reelq("jobs", *(["--api-key", key] if key else []))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert words in line
    assert "rq_secret" not in line


def test_a_key_that_cannot_be_sent_is_not_shown(reelq, api):
    done = reelq("jobs", REELQ_API_KEY="rq_sec\tret")
    assert done.returncode == 2
    assert "rq_sec" not in done.stderr
    assert api.requests == []


def test_an_estimate_may_be_of_the_window(reelq, answering):
    reelq("estimate", "--window", "off_peak")
    assert json.loads(answering.requests[-1][2]) == {"window": "off_peak"}
