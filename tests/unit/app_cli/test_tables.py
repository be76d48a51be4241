"""What people see, at 80 columns."""

import pytest

from app.cli.gpu_table import bar, show_gpus
from app.cli.tables import show_estimate, show_job, show_jobs
from tests.support.api_objects import JOB_ID, make_gpu, make_job


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
    show_jobs([make_job("running", model="some-organisation/with-a-long-model-name" * 2)])
    assert "some-organisation/with-a-long-model-name" * 2 in capsys.readouterr().out


def test_a_job(at_80):
    lines = at_80(show_job, make_job("running", prompt="waves\x1b[31m\nand foam", attempts=2, resumed_from_step=3))
    text = "\n".join(lines)
    assert "running, denoising 40% step 4/10" in text
    assert "attempt 2 of 3, resumed from step 3" in text
    assert "waves [31m and foam" in text
    assert "16 frames 256x256, 10 steps, seed 7" in text
    assert "sha256" not in text


def test_a_finished_job_has_its_result(at_80):
    text = "\n".join(at_80(show_job, make_job("succeeded", sha256="ab" * 32, video_bytes=2**20)))
    for words in ("1.0 MiB, 2.0 s at 8 frames per second", "ab" * 32, "ran", "3.5 s"):
        assert words in text


def test_gpus(at_80):
    lines = at_80(show_gpus, [make_gpu(), make_gpu(state="drained", reason="fan is loud", workers=[], leases=[])])
    assert lines[0] == "GPU-3f0c1b5e-8a52-4d9e-9c54-0d5e5a3d8b11  NVIDIA H100 80GB HBM3"
    assert lines[1:6] == [
        "  state   active",
        "  memory  █████▒▒▒▒▒░░░░░░░░░░  20.0 GiB used, 40.0 GiB reserved, of 80.0 GiB",
        "  load    97%, 61 °C",
        "  worker  pid 4711, ali-vilab/i2vgen-xl",
        f"  job     {JOB_ID} denoising 42% step 21/50",
    ]
    assert lines[6] == ""
    assert "  state   drained: fan is loud" in lines
    assert "  worker  none" in lines


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
    need = {"vram_bytes": 9 * 2**30, "seconds": 71.0, "weight": 7.9, "plan": "fp16"}
    fits = {"gpu": "GPU-1", "name": "H100", "state": "active", "online": True, "fits": True, "estimate": need}
    small = {**fits, "gpu": "GPU-2", "name": "T4", "online": False, "fits": False, "reason": "needs 20.0 GiB"}
    show_estimate({"model": "m", "params": make_job()["params"], "estimate": need, "gpus": [fits, small]})
    text = capsys.readouterr().out
    for words in ("9.0 GiB", "1m 11s", "7.9", "fp16", "GPU-1  H100 (active): fits, 1m 11s"):
        assert words in text
    assert "GPU-2  T4 (active, offline): does not fit: needs 20.0 GiB" in text
    show_estimate({"model": "m", "params": make_job()["params"], "estimate": None, "gpus": [small]})
    assert "no GPU could ever run it" in capsys.readouterr().out
