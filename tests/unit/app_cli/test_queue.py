"""The queue for people."""

from app.cli.queue import show_queue
from tests.support.api_objects import make_queue


def test_a_queue_at_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    show_queue(make_queue())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:11] == [
        "state     open",
        "ready     12",
        "deferred  3",
        "running   2",
        "oldest    waits 4m 10s",
        "",
        "model                plan     up to  jobs",
        "ali-vilab/i2vgen-xl  fp16   8.0 GiB    11",
        "ali-vilab/i2vgen-xl  fp16  34.0 GiB     1",
        "",
        "GPU-3f0c1b5e-8a52-4d9e-9c54-0d5e5a3d8b11",
    ]
    assert lines[11].startswith("  kept for job_01jd0000000000000000000000, 34.0 GiB, since ")
    assert max(map(len, lines)) <= 80


def test_an_empty_paused_queue(capsys):
    empty = {"ready": 0, "oldest_wait_seconds": None, "classes": [], "reservations": []}
    paused = {
        "paused": True,
        "pause_reason": "power\x1b[2J cut",
        "paused_at": "2026-01-01T00:00:00Z",
        "paused_by": "api",
    }
    show_queue(make_queue(**empty, **paused))
    out = capsys.readouterr().out
    assert out.startswith("state     paused for ")
    assert "by api: power [2J cut\nready     0\n" in out
    assert "oldest" not in out
    assert "model" not in out
