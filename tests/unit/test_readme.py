"""The README stays true: its commands, calls and variables exist."""

import re
from pathlib import Path

from app.settings import FrontEndSettings
from scheduler.service import Scheduler
from scheduler.settings import StoreSettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# Read outside the settings classes: where to find them, and the client's own.
OTHER_VARIABLES = {"REELQ_CONFIG", "REELQ_URL", "REELQ_API_KEY"}
TOLD = {f"REELQ_CAPACITY_{name}" for name in ("ID", "ACTION", "COUNT", "HOST", "GPU", "WANTED", "ONLINE", "REASON")}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"demo", "test", "serve"} <= named <= targets | {"it"}


def test_ci_runs_the_tests_command_of_the_readme() -> None:
    assert re.search(r"^make test\b", README, re.MULTILINE)
    assert re.search(r"^(exec )?make test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_variables_are_settings() -> None:
    fields = {*FrontEndSettings.model_fields, *WorkerSettings.model_fields}
    known = {f"REELQ_{name.upper()}" for name in fields} | OTHER_VARIABLES | TOLD
    assert set(re.findall(r"REELQ_[A-Z_]+", README)) <= known


def test_calls_of_the_table_are_routes(tmp_path: Path) -> None:
    from app.main import create_app

    with Scheduler.open(StoreSettings(data_dir=tmp_path)) as scheduler:
        app = create_app(scheduler, FrontEndSettings(data_dir=tmp_path))
    paths = {re.sub(r"\{[a-z_]+\}", "{id}", path) for path in app.openapi()["paths"]}
    for path in re.findall(r"`(?:GET|POST|PATCH|DELETE) (/[^ `…]*)`", README):
        assert path in paths | {"/openapi.json"}, path


def test_commands_exist() -> None:
    from typer.main import get_group

    from app.cli.root import build

    commands = get_group(build()).commands
    for command in re.findall(r"^(?:.*; *)?reelq ([a-z]+)", README, re.MULTILINE):
        assert command in commands, command
