"""Which model `--model` means."""

from pathlib import Path

import pytest

from scheduler import catalog
from workers import models
from workers.model_folder import ModelFolder, ModelFolderError
from workers.models import choose


@pytest.fixture
def located(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was looked for; every folder and hub id is found."""
    asked: list[str] = []

    def locate(model: str, *, models_dir: Path) -> ModelFolder:
        asked.append(model)
        path = Path(model) if Path(model).is_dir() else models_dir / "snapshots" / "abc"
        return ModelFolder(model, path, "fp16", weights_bytes=123, fingerprint="f" * 16)

    monkeypatch.setattr(models, "locate", locate)
    return asked


@pytest.mark.parametrize(("model", "kind"), [("auto", "cpu"), ("tiny", "cpu"), ("tiny-random-noise", "NVIDIA T4")])
def test_the_tiny_model_needs_no_folder_yet(model: str, kind: str, located: list[str], tmp_path: Path) -> None:
    choice = choose(model, kind=kind, models_dir=tmp_path)
    assert choice.folder is None
    assert choice.served.id == catalog.TINY_MODEL_ID
    assert choice.architecture.random_weights
    assert located == []


def test_auto_on_a_gpu_is_the_published_model(located: list[str], tmp_path: Path) -> None:
    choice = choose("auto", kind="NVIDIA H100", models_dir=tmp_path)
    assert located == ["ali-vilab/i2vgen-xl"]
    assert choice.served.id == "ali-vilab/i2vgen-xl"
    assert (choice.served.weights_bytes, choice.served.fingerprint) == (123, "f" * 16)
    assert not choice.architecture.random_weights


@pytest.mark.usefixtures("located")
def test_a_folder_is_named_after_itself_and_never_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "my-finetune"
    folder.mkdir()
    assert choose(str(folder), kind="cpu", models_dir=tmp_path).served.id == "my-finetune"


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA GeForce RTX 3090"])
@pytest.mark.parametrize("model", ["tiny", "auto"])
@pytest.mark.usefixtures("located")
def test_every_choice_has_a_footprint_in_the_plan_of_its_device(model: str, kind: str, tmp_path: Path) -> None:
    choice = choose(model, kind=kind, models_dir=tmp_path)
    plan = "fp32" if kind == "cpu" else "fp16"
    assert choice.architecture.resident_bytes(plan, choice.served.weights_bytes) > 0


def test_a_model_that_is_nowhere_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no such folder") as caught:
        choose(str(tmp_path / "nowhere"), kind="cpu", models_dir=tmp_path)
    assert "\n" not in str(caught.value)
