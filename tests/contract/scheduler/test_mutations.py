"""The suite notices when a guard is taken out: each mutation must make its test fail."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SUITE = Path(__file__).parent.relative_to(ROOT)


@dataclass(frozen=True)
class Mutation:
    """A text of one file of scheduler/ to replace everywhere in it, and the test that must notice."""

    path: str
    text: str
    replacement: str
    test: str


MUTATIONS = {
    "a report without a fence": Mutation(
        "leases.py",
        "s.leases.c.job_id == lease.job_id, s.leases.c.lease == lease.fence",
        "s.leases.c.job_id == lease.job_id",
        "test_fencing.py::test_a_stale_fence_changes_nothing[sqlite-taken_over-report]",
    ),
    "transitions without a fence": Mutation(
        "store/transitions.py",
        "_states.c.status == JobStatus.RUNNING, _states.c.lease == fence",
        "_states.c.status == JobStatus.RUNNING",
        "test_fencing.py::test_a_stale_fence_changes_nothing[sqlite-taken_over-succeed]",
    ),
    "a claim that ignores drains": Mutation(
        "queue.py",
        "if gpu.state != GpuState.ACTIVE or model is None",
        "if model is None",
        "test_drain.py::test_a_draining_gpu_gets_no_job[sqlite]",
    ),
    "a ledger that forgets open leases": Mutation(
        "placement.py",
        "total_bytes - headroom_bytes - committed_bytes",
        "total_bytes - headroom_bytes",
        "test_claim_memory.py::test_open_leases_count_although_the_memory_is_still_measured_free[sqlite]",
    ),
    "a claim that ignores what was measured": Mutation(
        "placement.py",
        "min(measured_free_bytes, total_bytes",
        "min(total_bytes, total_bytes",
        "test_claim_memory.py::test_measured_memory_must_cover_the_job_and_equal_is_enough[sqlite-1-False]",
    ),
    "a success that overrides a cancel": Mutation(
        "leases.py",
        "if state.cancel_requested_at is None",
        "if True",
        "test_cancel.py::test_a_cancel_in_time_wins[sqlite-succeed]",
    ),
    "a retry without end": Mutation(
        "leases.py",
        "if state.attempts >= limit",
        "if False",
        "test_attempts.py::test_silence_costs_an_attempt_and_ends_in_failure[sqlite]",
    ),
}


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [*command, *(str(SUITE / test) for test in tests)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the scheduler and of its tests."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for part in ("scheduler", SUITE, "tests/support"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_without_a_mutation_the_copy_passes(copied: Path) -> None:
    done = run(copied, *(mutation.test for mutation in MUTATIONS.values()))

    assert done.returncode == 0, done.stdout
    assert re.search(rf"\b{len(MUTATIONS)} passed\b", done.stdout)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(copied: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    path = copied / "scheduler" / mutation.path
    source = path.read_text()
    assert mutation.text in source, f"scheduler/{mutation.path} has changed: bring this mutation up to date"
    path.write_text(source.replace(mutation.text, mutation.replacement))

    done = run(copied, mutation.test)

    assert done.returncode == 1, done.stdout + done.stderr  # 1: a test failed; more would be an accident
    assert re.search(r"\b1 failed\b", done.stdout), done.stdout
