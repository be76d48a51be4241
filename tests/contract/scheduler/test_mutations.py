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
    """A pattern that is replaced everywhere in one file of scheduler/, and the test that must notice."""

    path: str
    pattern: str
    replacement: str
    test: str


MUTATIONS = {
    "a report without a fence": Mutation(
        "store/reports.py",
        r"job_id = :job_id AND lease = :fence",
        "job_id = :job_id",
        "test_fencing.py::test_a_stale_fence_changes_nothing[sqlite-taken_over-report]",
    ),
    "an ending without a fence": Mutation(
        "store/transitions.py",
        r"(_states\.c\.status == JobStatus\.RUNNING), _states\.c\.lease == fence",
        r"\1",
        "test_fencing.py::test_a_stale_fence_changes_nothing[sqlite-taken_over-retry]",
    ),
    "a success without a fence": Mutation(
        "store/reports.py",
        r"status = 'running' AND lease = :fence AND cancel",
        "status = 'running' AND cancel",
        "test_fencing.py::test_a_stale_fence_changes_nothing[sqlite-taken_over-succeed]",
    ),
    "a success that overrides a cancel": Mutation(
        "store/reports.py",
        r" AND cancel_requested_at IS NULL",
        "",
        "test_cancel.py::test_a_cancel_in_time_wins[sqlite-succeed]",
    ),
    "a retry without end": Mutation(
        "leases.py",
        r"if state\.attempts >= limit",
        "if False",
        "test_attempts.py::test_silence_costs_an_attempt_and_ends_in_failure[sqlite]",
    ),
    "a claim that ignores drains": Mutation(
        "claiming.py",
        r"look\.state != GpuState\.ACTIVE or ",
        "",
        "test_drain.py::test_a_draining_gpu_gets_no_job[sqlite]",
    ),
    "a claim that ignores a pause": Mutation(
        "claiming.py",
        r" or look\.paused_at is not None",
        "",
        "test_control.py::test_a_paused_queue_starts_nothing_and_lets_running_jobs_end[sqlite]",
    ),
    "a claim of a worker that is to be replaced": Mutation(
        "claiming.py",
        r" or look\.condemned",
        "",
        "test_known_failures.py::test_a_job_starts_once_its_blocker_has_cleared[sqlite-a_condemned_worker]",
    ),
    "a claim before its time": Mutation(
        "store/claims.py",
        r"(?<!SET )not_before (\+ 0 )?= 0",
        "not_before >= 0",
        "test_known_failures.py::test_a_job_starts_once_its_blocker_has_cleared[sqlite-not_before]",
    ),
    "a ledger that forgets open leases": Mutation(
        "placement.py",
        r"total_bytes - headroom_bytes - committed_bytes",
        "total_bytes - headroom_bytes",
        "test_claim_memory.py::test_open_leases_count_although_the_memory_is_still_measured_free[sqlite]",
    ),
    "a ledger that ignores what was measured": Mutation(
        "placement.py",
        r"min\(measured_free_bytes, total_bytes",
        "min(total_bytes, total_bytes",
        "test_claim_memory.py::test_measured_memory_must_cover_the_job_and_equal_is_enough[sqlite-1-False]",
    ),
    "an order without ageing": Mutation(
        "rank.py",
        r"math\.log\(merit\) - virtual_at / policy\.tau_seconds",
        "math.log(merit)",
        "test_order.py::test_a_later_job_overtakes_only_within_the_bound[sqlite-416.88830833596717-False]",
    ),
    "a reservation that holds nothing off": Mutation(
        "claiming.py",
        r"if window\.allows\(",
        "if True or window.allows(",
        "test_reservations.py::test_what_would_push_the_start_back_waits_although_it_fits[sqlite]",
    ),
    "a ledger that forgets the worker's other lanes": Mutation(
        "claiming.py",
        r"resident \+ others \+ beside",
        "resident + others",
        "test_lanes.py::test_a_full_gpu_still_takes_a_job_into_a_lane_that_has_one[sqlite]",
    ),
    "memory that is given back to each lane": Mutation(
        "claiming.py",
        r"max\(0, load\) if beside else load",
        "load",
        "test_lanes.py::test_memory_that_a_leaner_plan_gives_back_is_given_once[sqlite]",
    ),
    "a claim for a shape that overtakes": Mutation(
        "claiming.py",
        r"shape not in \(None, head\.shape\)",
        "False",
        "test_lanes.py::test_a_claim_for_a_shape_never_overtakes[sqlite]",
    ),
    "a claim that ignores held models": Mutation(
        "offers.py",
        r" or model\.held is not None",
        "",
        "test_held_models.py::test_a_held_model_starts_no_job_and_a_running_one_goes_on[sqlite]",
    ),
    "a claim that ignores limits of running jobs": Mutation(
        "store/gates.py",
        r"\) < coalesce\(",
        ") < 1 + coalesce(",
        "test_running_limits.py::test_a_tenant_at_its_limit_waits_and_the_others_start[sqlite]",
    ),
    "a reservation that passes a limit of running jobs": Mutation(
        "store/claims.py",
        r" AND \{gates\.is_open\('s\.gate'\)\}",
        "",
        "test_running_limits.py::test_a_reserved_gpu_is_not_taken_by_a_job_without_a_place[sqlite]",
    ),
    "int8 for everybody": Mutation(
        "offers.py",
        r"allow_int8=params\.allow_int8",
        "allow_int8=True",
        "test_plans.py::test_int8_is_for_jobs_that_allow_it[sqlite]",
    ),
    "a backfill that forgets what the reserved job needs": Mutation(
        "backfill.py",
        r"Window\(seconds, after - needed_bytes\)",
        "Window(seconds, after)",
        "test_reservations.py::test_beside_means_to_the_last_byte[sqlite-7-False]",
    ),
    "a job that is acknowledged although its commit failed": Mutation(
        "submitting.py",
        r"with self\._database\.trip\(\) as trip:",
        "with __import__('contextlib').suppress(Exception), self._database.trip() as trip:",
        "test_known_failures.py::test_nothing_is_acknowledged_that_is_not_stored[the disk is full-sqlite]",
    ),
    "events with gaps": Mutation(
        "store/eventlog.py",
        r"coalesce\(max\(position\), 0\) \+ 1",
        "coalesce(max(position), 0) + 2",
        "test_events.py::test_a_reader_goes_on_from_where_it_left_off[sqlite]",
    ),
}


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    plugins = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # or each start takes twice as long
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
    mutated, times = re.subn(mutation.pattern, mutation.replacement, source)
    assert times > 0, f"scheduler/{mutation.path} has changed: bring this mutation up to date"
    path.write_text(mutated)

    done = run(copied, mutation.test)

    assert done.returncode == 1, done.stdout + done.stderr  # 1: a test failed; more would be an accident
    assert re.search(r"\b1 failed\b", done.stdout), done.stdout
