"""The report on the pages."""

from typing import Any

from benchmarks.pages.report import markdown

RESULTS: dict[str, Any] = {
    "jobs": 1000,
    "gpus": 2,
    "days": 7,
    "repeats": 3,
    "machine": {"cores": 2, "cpu": "some", "load_average": 0.5},
    "views": {
        "Jobs": {"first_seconds": 0.2, "seconds": 0.05, "bytes": 20_480, "load_seconds": 0.3},
        "Costs": {"first_seconds": 0.9, "seconds": 0.8, "bytes": 10_240, "load_seconds": 1.2},
    },
    "nothing_load_seconds": 0.04,
}


def test_each_view_is_told_beside_its_limit() -> None:
    told = markdown(RESULTS)
    assert "1,000 ended jobs on 2 GPUs" in told
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines() if line.startswith("| ")]
    assert ["Jobs", "200 ms", "50 ms", "20 KiB", "300 ms", "30%"] in rows
    assert ["Costs", "900 ms", "800 ms", "10 KiB", "1200 ms", "120%"] in rows
    assert "loaded in 40 ms" in told


def test_without_a_browser_the_answer_counts() -> None:
    jobs = RESULTS["views"]["Jobs"] | {"load_seconds": None}
    blind = {**RESULTS, "nothing_load_seconds": None, "views": {"Jobs": jobs}}
    told = markdown(blind)
    assert "| -" in told
    assert "5%" in told
    assert "No browser looked." in told
