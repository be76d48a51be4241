"""The Makefile's installing, on a stand-in for Python that writes down what it is asked to do."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "PYTHON", "TORCH_PIP_ARGS", "SERVE_ARGS", "TEST_WORKERS", "PYTEST_ARGS", "FUZZ_ARGS", "CHAOS_ARGS", "BENCH_ARGS",
}  # fmt: skip
# It makes an environment that holds copies of itself, and otherwise only logs and succeeds. A file `fails`
# makes those calls fail that contain the file's text.
STAND_IN = """#!/bin/sh
echo "$*" >> "$LOG"
[ -f fails ] && case "$*" in *"$(cat fails)"*) exit 3;; esac
case "$1 $2" in
  "-V "*) echo "Python 3.x";;
  "-m venv")
    rm -rf .venv; mkdir -p .venv/bin
    for name in python ruff mypy lint-imports reelq; do cp "$0" ".venv/bin/$name"; done;;
esac
exit 0
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile, the two files that it installs from, and the stand-in as `fakepython`."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "fakepython"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return tmp_path


def make(checkout, *arguments):
    """Run make; return it, and the calls of the stand-in that it made."""
    log = checkout / "log"
    log.write_text("")
    # `make test` hands its own variables down to here.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k not in VARIABLES}
    env["LOG"] = str(log)
    command = ["make", "PYTHON=./fakepython", *arguments]
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=60)
    return done, log.read_text().splitlines()


def installs(calls):
    return [call for call in calls if " install " in call]


def test_help_is_the_default_and_lists_every_target(checkout):
    done, calls = make(checkout)
    text = (checkout / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert [line.split()[1] for line in done.stdout.splitlines()] == phony.split()
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())
    assert not calls


def test_demo_installs_torch_first_then_only_what_it_needs(checkout):
    done, calls = make(checkout, "demo")
    assert done.returncode == 0, done.stderr
    (pin,) = re.findall(r"^torch==.+$", (checkout / "constraints.txt").read_text(), re.MULTILINE)
    first, second = installs(calls)
    assert first.endswith(f"-c constraints.txt {pin}")
    assert second.endswith("-c constraints.txt -e .[worker]")
    assert calls[-1] == "-m app.demo"
    assert "installing" in done.stdout


def test_second_run_installs_nothing(checkout):
    make(checkout, "demo")
    _, calls = make(checkout, "demo")
    assert calls == ["-m app.demo"]


def test_demo_after_test_installs_nothing(checkout):
    _, calls = make(checkout, "test")
    assert installs(calls)[1].endswith("-e .[worker,postgres,s3,dev]")
    _, calls = make(checkout, "demo")
    assert calls == ["-m app.demo"]


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_new_pins_are_installed(checkout, file):
    make(checkout, "demo")
    later = (checkout / ".venv" / ".runtime").stat().st_mtime + 10
    os.utime(checkout / file, (later, later))
    _, calls = make(checkout, "demo")
    assert len(installs(calls)) == 2


@pytest.mark.parametrize("word", ["torch==", "-e .", "venv --clear"])
def test_what_was_interrupted_is_done_again(checkout, word):
    (checkout / "fails").write_text(word)
    done, calls = make(checkout, "demo")
    assert done.returncode != 0
    assert "-m app.demo" not in calls
    (checkout / "fails").unlink()
    done, calls = make(checkout, "demo")
    assert done.returncode == 0
    assert len(installs(calls)) == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [("version_info", "3.11 or newer is needed"), ("import ensurepip", "venv package"), ("-c", "cannot run")],
)
def test_unfit_python_is_refused_in_one_line(checkout, word, message):
    (checkout / "fails").write_text(word)
    done, _ = make(checkout, "demo")
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert done.returncode != 0
    assert len(errors) == 1
    assert message in errors[0]
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("word", ["format --check", "check --quiet", "--no-error-summary"])
def test_lint_failure_fails_the_tests_before_they_run(checkout, word):
    (checkout / "fails").write_text(word)
    done, calls = make(checkout, "test")
    assert done.returncode != 0
    assert not [call for call in calls if "pytest" in call]


def test_failing_tests_fail_make_and_say_so(checkout):
    (checkout / "fails").write_text("-m pytest")
    done, _ = make(checkout, "test")
    assert done.returncode != 0
    assert "test: FAILED, pytest exit status 3" in done.stderr
    (checkout / "fails").unlink()
    done, calls = make(checkout, "test", "PYTEST_ARGS=-k queue")
    assert done.stdout.splitlines()[-1] == "test: passed"
    assert calls[-1] == "-m pytest -n 2 --dist loadfile --no-loadscope-reorder -m not gpu -k queue"


def test_clean_leaves_the_users_data(checkout):
    make(checkout, "demo")
    (checkout / "reelq-data").mkdir()
    (checkout / "demo.mp4").write_text("x")
    for folder in ("app", "scheduler", "workers", "tests", "benchmarks", "docker"):
        (checkout / folder / "__pycache__").mkdir(parents=True)
    done, _ = make(checkout, "clean")
    assert done.returncode == 0, done.stderr
    assert not (checkout / ".venv").exists()
    assert not (checkout / "demo.mp4").exists()
    assert not list(checkout.rglob("__pycache__"))
    assert (checkout / "reelq-data").is_dir()


def test_ci_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test"
