"""pyproject.toml, constraints.txt and what is installed agree, and torch stays out of the front end."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BASE = PYPROJECT["project"]["dependencies"]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
BUILD = PYPROJECT["build-system"]["requires"]
DECLARED = [Requirement(text) for text in [*BASE, *BUILD, *(one for extra in EXTRAS.values() for one in extra)]]


@pytest.fixture(scope="module")
def pins():
    """{canonical name: version} of constraints.txt; a line that is no exact pin fails every test here."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert (specifier.operator, requirement.url, requirement.marker) == ("==", None, None), line
        assert "*" not in specifier.version, line
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} is pinned twice"
        found[name] = Version(specifier.version)
    return found


def test_pins_name_no_local_build_and_not_pip_or_the_project(pins):
    assert not [name for name, version in pins.items() if version.local]
    assert not {"pip", "reelq"} & pins.keys()


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_every_declared_requirement_is_pinned_within_its_range(pins, requirement):
    version = pins[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


def test_everything_installed_for_them_is_pinned(pins):
    """Walk what is installed. torch's own are left out: they differ by build, and torch pins them itself."""
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in DECLARED if r.name != "hatchling"]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in pins, f"{name} is installed for reelq, and constraints.txt does not pin it"
        if name == "torch":
            continue
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *extras]):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    assert len(seen) > len(DECLARED)


def test_torch_is_pinned_in_one_line_of_the_form_the_makefile_and_the_image_read():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len([line for line in lines if line.startswith("torch==")]) == 1


def test_only_the_worker_extra_brings_torch():
    heavy = {"torch", "diffusers", "transformers"}
    assert not heavy & {Requirement(text).name for text in BASE}
    bringing = {name for name, extra in EXTRAS.items() if heavy & {Requirement(text).name for text in extra}}
    assert bringing == {"worker"}


def test_front_end_and_scheduler_start_without_torch():
    code = (
        "import app.cli, scheduler, sys; print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_console_scripts_name_packages_of_the_wheel():
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    for target in PYPROJECT["project"]["scripts"].values():
        module, _, function = target.partition(":")
        assert module.split(".")[0] in packages
        assert function.isidentifier()
