"""What the containers run exists, and takes the flags that they give it."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.unit.docker.parsing import ROOT, environment, image_instructions


@pytest.fixture
def command(image, stages, compose):
    """The argument lists that the image runs: by itself, and as compose.yaml starts it."""
    entry, default = [], []
    for instruction in image_instructions(stages):
        if instruction.name == "ENTRYPOINT":
            entry, default = instruction.words, []
        elif instruction.name == "CMD":
            default = instruction.words
    return [entry + default, entry + compose["services"][image].get("command", default)]


def help_of(script, subcommands):
    """Run a console script of pyproject.toml with `--help`, in a terminal too wide to cut words."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts[script].partition(":")
    code = f"import sys; sys.argv[0] = {script!r}; from {module} import {function}; sys.exit({function}())"
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    arguments = [sys.executable, "-c", code, *subcommands, "--help"]
    return subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_commands_and_their_flags_exist(command):
    for script, *arguments in command:
        flags = [word.partition("=")[0] for word in arguments if word.startswith("-")]
        first_flag = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
        shown = help_of(script, arguments[:first_flag])
        assert shown.returncode == 0, shown.stderr
        for flag in flags:
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", shown.stdout), f"{script} has no {flag}"


def test_image_settings_are_settings_of_the_program(image, stages):
    names = {n for n in environment(image_instructions(stages)) if n.startswith("REELQ_")}
    assert names
    assert names <= known_settings(image)


def test_compose_settings_are_settings_of_the_program(image, compose):
    names = {n for n in compose["services"][image]["environment"] if n.startswith("REELQ_")}
    assert {"REELQ_DATABASE_URL", "REELQ_BLOB_URL"} <= names
    assert names <= known_settings(image)


def known_settings(image):
    """Return the environment variables that the program in `image` reads, by its settings class."""
    if image == "frontend":
        from app.settings import FrontEndSettings as Settings
    else:
        from workers.settings import WorkerSettings as Settings
    prefix = Settings.model_config["env_prefix"]
    return {f"{prefix}{name}".upper() for name in Settings.model_fields}
