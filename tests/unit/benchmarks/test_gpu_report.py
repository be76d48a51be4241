"""The report and the targets, from results as a run on a GPU, and one without, would leave them."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import report
from benchmarks.gpu.inside import with_steps
from benchmarks.gpu.targets import MET, MISSED, NOT_RUN, targets

GB = 10**9


def _row(**changes: Any) -> dict[str, Any]:
    figures = {
        "shape": "512x512x16",
        "peak_bytes": 8 * GB,
        "predicted_peak_bytes": 9 * GB,
        "step_seconds": 0.1,
        "predicted_step_seconds": 0.12,
        "matmul_share": 0.6,
        "encode_seconds": 0.1,
        "decode_seconds": 0.9,
        "fixed_seconds": 1.0,
    }
    return with_steps(figures | changes, steps=50)


@pytest.fixture
def results() -> dict[str, Any]:
    """A run on a GPU that had time for everything."""
    return {
        "measured_at": "2026-11-21T00:00:00+00:00",
        "on_gpu": True,
        "environment": {"device": "NVIDIA H100", "driver": "600.1", "CUDA": None},
        "options": {"repeats": 3},
        "not_run": [],
        "matmul_flops": {"float16": 700e12},
        "computed": {
            "768x768x24": {
                "fp16": {"denoise_bytes": 14 * GB, "decode_bytes": 6 * GB, "peak_bytes": 14 * GB},
                "fp16-chunked": {"denoise_bytes": 8 * GB, "decode_bytes": 6 * GB, "peak_bytes": 8 * GB},
            }
        },
        "service": {
            "plan": "fp16",
            "jobs": 5,
            "cold_load_seconds": 20.0,
            "mean_run_seconds": 6.0,
            "predicted_seconds": 7.0,
            "mean_seconds_back_to_back": 6.0,
            "videos_per_hour": 600.0,
            "gap_seconds": 0.01,
            "gap_share": 0.002,
            "checkpoints": 4,
            "checkpoint_seconds": 0.02,
            "checkpoint_share": 0.02,
        },
        "plans": {
            "fp16": {"512p/16/50": _row(), "768p/24/50": _row(shape="768x768x24", peak_bytes=14 * GB)},
            "fp16-chunked": {"768p/24/50": _row(shape="768x768x24", peak_bytes=12 * GB, step_seconds=0.105)},
        },
        "batches": {"512p/16/50": {"1": {"pass_seconds": 0.1, "gain": 1.0, "peak_bytes": 8 * GB}}},
        "peer": {
            "FP16": {
                "512p/16/50": {
                    "shape": "512x512x16",
                    "step_seconds": 0.2,
                    "fixed_seconds": 2.0,
                    "job_seconds": 12.0,
                    "jobs_per_hour": 300.0,
                    "reserved_bytes": 10 * GB,
                }
            }
        },
        "caps": {
            "512p/16/50": {"plan": "fp16", "predicted_bytes": 9 * GB, "runs": True},
            "1024p/32/80": {"plan": "fp16-chunked", "predicted_bytes": 20 * GB, "runs": False},
        },
    }


def _verdicts(results: dict[str, Any]) -> dict[str, str]:
    return {one["target"]: one["verdict"] for one in targets(results)}


def _verdict(results: dict[str, Any], *words: str) -> str:
    (verdict,) = [verdict for target, verdict in _verdicts(results).items() if all(word in target for word in words)]
    return verdict


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        (("pipeline's in FP16",), MET),
        (("pipeline's in FP32",), NOT_RUN),
        (("matrix product",), MET),
        (("gap",), MET),
        (("checkpoints",), MISSED),
        (("peak of fp16-chunked", "computed"), MET),
        (("peak of fp16-chunked", "768p/24/50"), MISSED),  # 14 % less
        (("job time of fp16-chunked",), MET),
        (("512p/16/50 runs under",), MET),
        (("1024p/32/80 runs under",), MISSED),
        (("768p/24/80 runs under",), NOT_RUN),
    ],
)
def test_each_target_is_held_against_its_figure(results: dict[str, Any], words: tuple[str, ...], verdict: str) -> None:
    assert _verdict(results, *words) == verdict


def test_without_a_gpu_only_what_is_computed_is_held_against_a_target(results: dict[str, Any]) -> None:
    results["on_gpu"] = False
    results["caps"] = {}
    verdicts = _verdicts(results)
    assert [target for target, verdict in verdicts.items() if verdict is not NOT_RUN] == [
        "peak of fp16-chunked under fp16 at 768x768x24, computed: at least 19 % less"
    ]


def test_the_report_says_what_was_not_run(results: dict[str, Any]) -> None:
    results["on_gpu"] = False
    results["not_run"] = [{"what": "everything at full size", "why": "there is no GPU on this machine"}]
    text = report.markdown(results)
    assert "**No GPU was to be had for this run.**" in text
    assert "| everything at full size | there is no GPU on this machine |" in text


def test_a_report_of_a_run_cut_short_has_what_there_is(results: dict[str, Any]) -> None:
    cut = {name: results[name] for name in ("measured_at", "on_gpu", "environment", "options", "not_run")}
    text = report.markdown(cut | {"service": None, "targets": targets(cut)})
    assert "## Plans" not in text
    assert "not run" in text


def test_results_are_stored_for_people_and_for_programs(results: dict[str, Any], tmp_path: Path) -> None:
    results["targets"] = targets(results)
    report.store(tmp_path / "results", results)
    assert json.loads((tmp_path / "results" / "gpu.json").read_text()) == results
    text = (tmp_path / "results" / "gpu.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert "## The recipe through the service" in titles
    assert "| 2.00         |" in text  # jobs an hour of fp16 over the stock pipeline's: 600 / 300
