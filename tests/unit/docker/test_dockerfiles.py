"""The images: what goes in, what they start from, and as whom they run."""

import re
import subprocess
import sys
import tomllib
from pathlib import PurePosixPath

import pytest

from tests.unit.docker.parsing import ROOT, environment, ignored, image_instructions, parse_stages

TORCH_FAMILY = {"torch", "diffusers", "transformers", "safetensors", "nvidia-ml-py"}


def context_sources(stages):
    """Return the paths that the stages take from the checkout."""
    found = []
    for instruction in (i for stage in stages for i in stage.instructions):
        assert instruction.name != "ADD", "COPY says what it does; ADD also unpacks and downloads"
        if instruction.name == "COPY" and instruction.flag("from") is None:
            found += instruction.words[:-1]
        found += [m["source"] for m in instruction.mounts() if m["type"] == "bind" and "from" not in m]
    return found


def installed_requirements(stages):
    """Return what docker/requirements.py prints for the extras that the stages name."""
    runs = " ".join(i.text for stage in stages for i in stage.instructions if i.name == "RUN")
    (extras,) = re.findall(r"python requirements\.py ([\w ]+) > requirements\.txt", runs)
    command = [sys.executable, "docker/requirements.py", *extras.split()]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {re.split(r"[^\w-]", line)[0] for line in printed.splitlines()}, runs


def test_every_copied_path_exists_and_is_sent_to_the_build(stages):
    patterns = (ROOT / ".dockerignore").read_text()
    sources = context_sources(stages)
    assert sources
    for source in sources:
        path = ROOT / source
        assert path.exists(), f"COPY {source}: no such path"
        files = [path] if path.is_file() else list(path.rglob("*.py"))
        lost = [f for f in files if ignored(f.relative_to(ROOT).as_posix(), patterns)]
        assert not lost, f".dockerignore keeps out what COPY {source} needs"


def test_what_the_wheel_is_built_from_is_copied(stages):
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    packages = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {project["readme"], *project["license-files"], *packages} <= set(context_sources(stages))


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "docker/.env",
        "docker/reelq.env",
        "reelq-data/reelq.db",
        "app/__pycache__/x.pyc",
    ],
)
def test_secrets_data_and_caches_stay_out_of_the_build(path):
    assert ignored(path, (ROOT / ".dockerignore").read_text())


def test_stages_are_taken_only_from_earlier_ones(stages):
    earlier = set()
    for stage in stages:
        for instruction in stage.instructions:
            wanted = [m["from"] for m in instruction.mounts() if "from" in m]
            if instruction.name == "COPY" and instruction.flag("from"):
                wanted.append(instruction.flag("from"))
            assert set(wanted) <= earlier
        earlier.add(stage.name)


def test_base_images_are_pinned(stages):
    names = {stage.name for stage in stages}
    bases = [stage.base for stage in stages if stage.base not in names]
    assert bases
    for base in bases:
        _, _, tag = base.rpartition("/")[2].partition(":")
        assert re.match(r"\d+\.\d+", tag), f"{base} is not pinned to a version"


def test_image_runs_as_an_ordinary_user(stages):
    instructions = image_instructions(stages)
    users = [i.text for i in instructions if i.name == "USER"]
    assert users
    assert users[-1] not in ("root", "0", "0:0")
    created = [i for i in instructions if i.name == "RUN" and f"useradd --uid 10001 --gid {users[-1]}" in i.text]
    assert created, "both images use one id, for they share a volume"
    started = max(index for index, i in enumerate(instructions) if i.name == "USER")
    assert not [i for i in instructions[started:] if i.name == "RUN"]


def test_folders_of_the_settings_belong_to_that_user(stages):
    instructions = image_instructions(stages)
    run = " ".join(i.text for i in instructions if i.name == "RUN")
    match = re.search(r"install -d -o reelq -g reelq -m 0750 ((?:/\w+ ?)+)", run)
    env = environment(instructions)
    wanted = {env["REELQ_DATA_DIR"], env["REELQ_BLOB_URL"].removeprefix("file://")}
    wanted |= {env["HF_HOME"]} if "HF_HOME" in env else set()
    assert wanted <= set(match[1].split())
    assert all(PurePosixPath(folder).is_absolute() for folder in wanted)


def test_stop_signal_and_labels(stages):
    instructions = image_instructions(stages)
    assert [i.text for i in instructions if i.name == "STOPSIGNAL"] == ["SIGTERM"]
    labels = " ".join(i.text for i in instructions if i.name == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert [i.text for i in instructions if i.name == "ARG" and i.text.startswith("VERSION")] == [f"VERSION={version}"]


def test_front_end_image_holds_no_torch():
    stages = parse_stages((ROOT / "docker" / "frontend.Dockerfile").read_text())
    names, runs = installed_requirements(stages)
    assert {"fastapi", "psycopg", "obstore"} <= names
    assert not names & TORCH_FAMILY
    assert "torch" not in runs


def test_worker_image_installs_torch_before_the_rest():
    stages = parse_stages((ROOT / "docker" / "worker.Dockerfile").read_text())
    names, runs = installed_requirements(stages)
    assert {"psycopg", "obstore"} | TORCH_FAMILY <= names
    assert 0 < runs.index("'^torch=='") < runs.index("requirements.py worker")


def test_every_install_is_constrained(stages):
    runs = [i.text for stage in stages for i in stage.instructions if i.name == "RUN"]
    installs = [command for run in runs for command in run.split("&&") if "pip install" in command]
    assert installs
    for command in installs:
        assert "-c constraints.txt" in command or "--no-deps" in command


def test_requirements_of_an_unknown_extra_are_refused():
    result = subprocess.run(
        [sys.executable, "docker/requirements.py", "nosuch"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "nosuch" in result.stderr
