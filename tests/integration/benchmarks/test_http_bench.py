"""The HTTP benchmark from end to end, with real servers and without the peer."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_parts_are_measured_and_reported(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.http", "--quick", "--no-peer", "--parts", "start"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "results")],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results" / "http.json").read_text())
    assert set(results["parts"]) == {"start"}
    for names in results["parts"]["start"]["results"].values():
        assert 0 < names["reelq"]["p50_ms"] <= names["reelq"]["p99_ms"]
    report = (tmp_path / "results" / "http.md").read_text()
    assert "## Submit to running" in report
    assert str(tmp_path) not in report
    assert not list(tmp_path.glob("reelq-bench-*"))  # the service's data is gone
