"""The GPU benchmark from end to end on a CPU: small rows of the tiny model, through the service and beside the peer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(300)
def test_without_a_gpu_it_measures_small_rows_and_says_what_is_missing(tmp_path: Path) -> None:
    parts = ["service", "matmul", "plans", "batches", "peer", "caps"]
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--plans", "fp32", "--parts", *parts]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "results")],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert results["on_gpu"] is False
    assert not [each for each in results["not_run"] if each["why"].startswith("failed")]
    service = results["service"]
    assert service["jobs"] == 2
    assert 0 <= service["gap_share"] < 1
    assert service["videos_per_hour"] > 0
    row = results["plans"]["fp32"]["512p/16/50"]
    assert row["shape"] == "64x64x4"
    assert row["peak_bytes"] > row["resident_bytes"] > 0
    assert row["step_seconds"] > 0
    assert row["matmul_share"] > 0
    assert results["batches"]["512p/16/50"]["1"]["gain"] == 1
    assert set(results["peer"]) == {"FP16", "FP32"}
    assert "every row under a cap of 24 GB, and the smallest cap of each" in {
        each["what"] for each in results["not_run"]
    }
    verdicts = {target["verdict"] for target in results["targets"]}
    assert verdicts == {"not run"}
    assert "**No GPU was to be had for this run.**" in (tmp_path / "results" / "gpu.md").read_text()
    assert str(tmp_path) not in (tmp_path / "results" / "gpu.md").read_text()
    assert not list(tmp_path.glob("reelq-bench-*"))  # the model and the service's data are gone
