"""What people see, at 80 columns."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from app.cli.gpu_table import bar, show_gpus, show_preview
from app.cli.models import show_models
from app.cli.tables import show_account, show_estimate, show_job, show_jobs
from tests.support.api_objects import JOB_ID, make_account, make_estimate, make_gpu, make_job, make_model


@pytest.fixture
def at_80(monkeypatch, capsys):
    """Call with COLUMNS=80 and return the lines printed, none longer than that."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(function, *arguments):
        function(*arguments)
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if len(line.rstrip()) > 80] == []
        return lines

    return show


def test_jobs(at_80):
    jobs = [
        make_job(),
        make_job("running", model="ali-vilab/i2vgen-xl"),
        make_job("failed"),
        make_job("succeeded"),
        make_job("failed", error={"code": "no_gpu_has_that_much_memory", "message": "x"}),
    ]
    _, queued, running, failed, succeeded, oom = at_80(show_jobs, jobs)
    for line in (queued, running, failed, succeeded, oom):
        assert line.startswith(JOB_ID)  # whole: an id that is cut off is of no use
        assert "16 256x256" in line
    assert "queued    #2" in queued
    assert "denoising 40%" in running
    assert "failed    out_of_memory" in failed
    assert "succeeded" in succeeded
    assert "no_gpu_has_" in oom


def test_into_a_pipe_nothing_is_cut_off(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "some-organisation/with-a-long-model-name" * 2
    show_jobs([make_job("running", model=long, prompt="waves " * 200), make_job()])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert long in lines[1]
    assert lines[1].endswith(" " + ("waves " * 200).strip())


def test_jobs_show_whose_and_of_what_only_where_that_differs(at_80, monkeypatch, capsys):
    same = [make_job(tenant="acme", prompt="waves that roll"), make_job(tenant="acme")]
    head, line, _ = at_80(show_jobs, same)
    assert head.split() == ["id", "status", "progress", "video", "age", "prompt"]
    assert "waves" in line
    monkeypatch.setenv("COLUMNS", "120")
    show_jobs([make_job(tenant="acme", model="m"), make_job(tenant="umbrella")])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "tenant", "status", "progress", "model", "video", "age", "prompt"]
    assert (first.split()[1], second.split()[1]) == ("acme", "umbrella")


def test_many_columns_still_have_80(at_80):
    jobs = [
        make_job("running", tenant="a-tenant-with-a-long-name", model="ali-vilab/i2vgen-xl", prompt="波" * 90),
        make_job("running", tenant="b", model="tiny"),
    ]
    head, line, _ = at_80(show_jobs, jobs)
    assert head.split()[:2] == ["id", "tenant"]
    assert "prompt" not in head
    assert line.startswith(f"{JOB_ID} a-tenant-wit… running denoising 40% ali-vil… ")
    _, line = at_80(show_jobs, [make_job("queued", prompt="波" * 90)])
    assert cell_len(line) <= 80
    assert line.endswith("波…")


def test_a_job_put_off_says_for_how_long(at_80, capsys):
    wait = make_job()["queue"]["wait"] | {"code": "not_before"}
    reason = "not before 2026-11-30T00:00:00Z, as asked for"
    job = make_job(queue=make_job()["queue"] | {"eta_seconds": 735574.3, "wait": wait, "wait_reason": reason})
    assert "in 8d 12h" in at_80(show_jobs, [job])[1]
    show_job(job)
    assert f"position 2; {reason}; starts in about 8d 12h" in capsys.readouterr().out


def test_a_job_of_the_window_says_when_that_opens(at_80, capsys):
    wait = make_job()["queue"]["wait"] | {"code": "window", "clears_when": "the window opens"}
    reason = "waits for the off-peak window, which opens at 2026-11-30 22:00 (Europe/Berlin)"
    queue = make_job()["queue"] | {"eta_seconds": 7200.0, "wait": wait, "wait_reason": reason}
    job = make_job(queue=queue, window="off_peak")
    assert "in 2h" in at_80(show_jobs, [job])[1]
    show_job(job)
    shown = capsys.readouterr().out
    assert reason in shown
    assert "window" in shown
    assert "off_peak" in shown


def test_a_job(at_80):
    lines = at_80(show_job, make_job("running", prompt="waves\x1b[31m\nand foam", attempts=2, resumed_from_step=3))
    text = "\n".join(lines)
    assert "running, denoising 40% step 4/10" in text
    assert "attempt 2 of 3, resumed from step 3" in text
    assert "waves [31m and foam" in text
    assert "16 frames 256x256, 10 steps, seed 7" in text
    assert "sha256" not in text


def test_a_job_tells_its_plan_and_notices(capsys):
    notices = [
        {"at": "2026-01-01T00:00:00Z", "code": "out_of_memory", "message": "goes on from step 12"},
        {"at": "2026-01-01T00:00:00Z", "code": "checkpoint_discarded", "message": "starts anew"},
    ]
    params = make_job()["params"] | {"preset": "fast", "allow_int8": True}
    show_job(make_job(params=params, notices=notices, checkpoint_step=12))
    lines = capsys.readouterr().out.splitlines()
    assert "video       16 frames 256x256, 10 steps, seed 7, preset fast, int8 allowed" in lines
    assert "plan        fp32 (fp32 is the fastest plan, and fits 1 of 1 GPU)" in lines
    assert "checkpoint  at step 12" in lines
    first = next(index for index, line in enumerate(lines) if line.startswith("notices"))
    assert lines[first].startswith("notices     goes on from step 12 (out_of_memory, ")
    assert lines[first + 1].startswith("            starts anew (checkpoint_discarded, ")


def test_a_queued_job_says_until_when_it_waits(capsys):
    show_job(make_job())
    lines = capsys.readouterr().out.splitlines()
    assert "note     position 2; all GPUs that fit are busy with 1 running; starts in about 41.2 s" in lines
    assert "until    jobs that run have ended" in lines
    assert "starts   in about 41.2 s, and in 9 of 10 cases within 1m 05s" in lines
    assert "ends     in about 45.2 s, and in 9 of 10 cases within 1m 10s" in lines


def test_a_queued_job_when_nobody_can_tell(capsys):
    queue = make_job()["queue"] | {"eta_seconds": None, "expected_start": None, "expected_finish": None}
    show_job(make_job(queue=queue | {"position": 52000, "position_exact": False}))
    text = capsys.readouterr().out
    assert "position ~52000; all GPUs that fit are busy with 1 running\n" in text
    assert "until    jobs that run have ended" in text
    assert "starts" not in text


def test_a_queued_job_of_an_older_front_end(capsys):
    queue = {"position": 2, "eta_seconds": 41.2, "wait_reason": "busy"}
    show_job(make_job(queue=queue))
    text = capsys.readouterr().out
    assert "position 2; busy; starts in about 41.2 s" in text
    assert "until" not in text


def test_a_finished_job_has_its_result(at_80):
    text = "\n".join(at_80(show_job, make_job("succeeded", sha256="ab" * 32, video_bytes=2**20)))
    for words in ("1.0 MiB, 2.0 s at 8 frames per second", "ab" * 32, "ran", "3.5 s", "21.4 kJ"):
        assert words in text


def test_gpus(at_80):
    lines = at_80(show_gpus, [make_gpu(), make_gpu(state="drained", reason="fan is loud", workers=[], leases=[])])
    assert lines[0] == "GPU-3f0c1b5e-8a52-4d9e-9c54-0d5e5a3d8b11  NVIDIA H100 80GB HBM3"
    assert lines[1:7] == [
        "  state   active",
        "  plans   fp16, fp16-chunked",
        "  memory  █████▒▒▒▒▒░░░░░░░░░░  20.0 GiB used, 40.0 GiB reserved, of 80.0 GiB",
        "  load    97%, 61 °C",
        "  worker  pid 4711, ali-vilab/i2vgen-xl, fp16",
        f"  job     {JOB_ID} denoising 42% step 21/50",
    ]
    assert lines[7] == ""
    assert "  state   drained: fan is loud" in lines
    assert "  worker  none" in lines


def test_a_drain_says_what_is_to_come(at_80):
    later = (datetime.now(UTC) + timedelta(hours=2, seconds=30)).isoformat()
    asked = {"asked_at": "2026-01-01T00:00:00.000000Z"}
    gpu = make_gpu(state="draining", reason="new fans")
    gpu["leases"][0]["release_requested"] = True
    past = asked | {"mode": "finish", "deadline_at": asked["asked_at"], "on_deadline": "kill", "resume_at": later}
    lines = at_80(show_gpus, [gpu | {"drain": past}])
    assert "  drain   finish, then kill now, takes jobs again in 2h 00m" in lines
    assert f"  job     {JOB_ID} denoising 42% step 21/50, asked to stop" in lines
    plain = asked | {"mode": "checkpoint", "deadline_at": None, "on_deadline": "checkpoint", "resume_at": None}
    assert "  drain   checkpoint" in at_80(show_gpus, [gpu | {"drain": plain}])


def test_power_and_what_others_hold_are_shown_where_they_are_known(at_80):
    memory = make_gpu()["memory"] | {"foreign_bytes": 3 * 2**30}
    lines = at_80(show_gpus, [make_gpu(memory=memory, power_watts=431.6)])
    assert "  others  3.0 GiB of what is used" in lines
    assert "  load    97%, 61 °C, 432 W" in lines
    for unknown in (None, 0):
        lines = at_80(show_gpus, [make_gpu(memory=memory | {"foreign_bytes": unknown}, power_watts=None)])
        assert not any("others" in line or line.endswith("W") for line in lines)


def test_a_reserved_gpu_says_for_whom(at_80):
    reservation = {"job_id": JOB_ID, "reserved_bytes": 8 * 2**30, "start_at": "2026-01-01T00:00:00.000000Z"}
    assert at_80(show_gpus, [make_gpu(reservation=reservation)])[-1] == f"  kept    for {JOB_ID}, 8.0 GiB, now"


def test_a_preview(at_80):
    jobs = [
        {"job_id": JOB_ID, "ending": "finishes", "in_seconds": 41.25, "lost_seconds": 0.0},
        {"job_id": JOB_ID, "ending": "released", "in_seconds": 302.0, "lost_seconds": 431.9},
    ]
    lines = at_80(
        show_preview,
        [
            make_gpu(preview={"empty_in_seconds": 302.0, "jobs": jobs}),
            make_gpu(id="GPU-1", preview={"empty_in_seconds": 0.0, "jobs": []}),
        ],
    )
    assert [" ".join(line.split()) for line in lines] == [
        "GPU-3f0c1b5e-8a52-4d9e-9c54-0d5e5a3d8b11 would be empty in about 5m 02s",
        f"{JOB_ID} finishes in 41.2 s loses -",
        f"{JOB_ID} released in 5m 02s loses 7m 12s",
        "GPU-1 would be empty at once",
        "Released and killed jobs go back to the queue, and go on from a checkpoint; it",
        "costs them no attempt.",
    ]


def test_a_gpu_that_nobody_can_measure(capsys):
    memory = {**make_gpu()["memory"], "used_bytes": None, "problem": "NVML: GPU is lost"}
    gpu = make_gpu(memory=memory, online=False, utilization_percent=None, temperature_celsius=None)
    show_gpus([gpu])
    text = capsys.readouterr().out
    assert "active, offline" in text
    assert "???? " in text
    assert "unknown used" in text
    assert "(NVML: GPU is lost)" in text
    assert "load    -, -" in text


@pytest.mark.parametrize(
    ("used", "reserved", "expected"),
    [
        (0, 0, "░" * 20),
        (100, 0, "█" * 20),
        (50, 25, "█" * 10 + "░" * 10),
        (25, 50, "█" * 5 + "▒" * 5 + "░" * 10),
        (150, 300, "█" * 20),
        (None, 50, "?" * 20),
    ],
)
def test_bar(used, reserved, expected):
    assert bar(used, reserved, 100) == expected


def test_an_estimate_says_where_it_fits_and_why_not(capsys):
    show_estimate(make_estimate())
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "memory  9.0 GiB",
        "time    1m 11s",
        "weight  7.9",
        "plan    fp16 (fp16 is the fastest plan, and fits 1 of 2 GPUs)",
        "",
        "GPU-1  H100 (active)",
        "  fp16          fits: 9.0 GiB, 1m 11s (measured 12 times here)",
        "  fp16-chunked  fits: 7.0 GiB, 1m 20s (data sheet)",
        "",
        "GPU-2  T4 (active, offline)",
        "  fp16  does not fit: needs 20.0 GiB",
    ]
    show_estimate(make_estimate(estimate=None, fits=False, reason="needs 20.0 GiB"))
    assert "fits   nowhere: needs 20.0 GiB" in capsys.readouterr().out


def test_models(at_80):
    lines = at_80(show_models, [make_model(), make_model(id="tiny", random_weights=True, held="3 runs\x1b failed")])
    rest = [
        "  preset    steps  estimate         measured",
        "  standard     50  1m 11s, 9.0 GiB  1m 08s, 8.0 GiB, 12 jobs",
        "      Every step in full.",
        "  fast         50  fits no GPU      nothing yet",
        "      An approximation.",
        "",
        "  parameter       default  from    to  multiple of",
        "  width               512   256  1280           64",
        "  guidance_scale        9",
        "  allow_int8        false",
        "  seed",
    ]
    first = ["ali-vilab/i2vgen-xl", *rest]
    assert lines == [*first, "", "tiny  random weights: its output is noise", "  held: 3 runs  failed", *rest]


def test_a_long_description_is_wrapped_and_indented(at_80):
    (preset, _) = make_model()["presets"]
    lines = at_80(show_models, [make_model(presets=[preset | {"description": "many words " * 20}])])
    wrapped = [line for line in lines if "many words" in line]
    assert len(wrapped) > 2
    assert all(line.startswith(("      many", "      words")) for line in wrapped)


def test_an_estimate_says_when_and_for_how_much(capsys):
    start = datetime.now(UTC) + timedelta(seconds=120.5)
    times = {"p50": start.isoformat(), "p90": (start + timedelta(seconds=60)).isoformat()}
    show_estimate(
        make_estimate(position=3, position_exact=False, expected_start=times, expected_finish=None, cost=0.0173)
    )
    lines = capsys.readouterr().out.splitlines()
    assert "position  ~3" in lines
    assert "starts    in about 2m 00s, and in 9 of 10 cases within 3m 00s" in lines
    assert "cost      0.0173" in lines
    assert not [line for line in lines if line.startswith("ends")]


def test_an_estimate_says_why_nobody_can_tell_when(capsys):
    show_estimate(make_estimate(expected_start=None, expected_finish=None, wait_reason="the queue is paused (fans)"))
    assert "starts  unknown: the queue is paused (fans)" in capsys.readouterr().out.splitlines()


def test_what_a_job_was_told_beside_its_parameters(capsys):
    job = make_job("succeeded", deadline="2026-01-01T01:00:00Z", retry_of="job_0", webhook_url="https://a/hook")
    job["video"] |= {"expires_at": "2026-02-01T00:00:00Z", "expired": False}
    job["measured"]["cost"] = 0.0021
    show_job(job | {"metadata": {"a": "b", "c": "d"}})
    text = capsys.readouterr().out
    assert "deadline  2026-01-01T01:00:00Z\nwebhook   https://a/hook\nmetadata  a=b\n          c=d\n" in text
    assert "retry of  job_0" in text
    assert "cost      0.0021" in text
    assert "expires   2026-02-01T00:00:00Z" in text
    job["video"]["expired"] = True
    show_job(job)
    text = capsys.readouterr().out
    assert "expired   2026-02-01T00:00:00Z" in text
    assert "url " not in text


def test_an_account(capsys):
    show_account(make_account())
    assert capsys.readouterr().out.splitlines() == [
        "tenant    acme",
        "key       key_01jd (demo): read, submit",
        "queued    7 of 100",
        "running   1 of any number",
        "submits   60 a minute",
        "requests  any number a minute",
        "priority  up to 10",
        "share     2",
    ]
    limits = make_account()["limits"] | {"share": None}
    show_account(make_account(key=None, limits=limits))
    text = capsys.readouterr().out
    assert "key       none: the service is open" in text
    assert "share     none: its jobs stand in line as they came" in text
