"""The tiny model on disk is the one that the catalog describes."""

from pathlib import Path

import pytest

from scheduler import catalog
from workers.model_folder import ModelFolderError
from workers.models import choose, tiny_folder


def test_the_catalog_knows_how_large_it_is(models_dir: Path) -> None:
    assert tiny_folder(models_dir).weights_bytes == catalog.TINY_WEIGHTS_BYTES
    assert choose("tiny", kind="cpu", models_dir=models_dir).served.weights_bytes == catalog.TINY_WEIGHTS_BYTES


def test_it_is_made_once(models_dir: Path) -> None:
    def times() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in models_dir.rglob("*")}

    before = times()
    assert tiny_folder(models_dir) == tiny_folder(models_dir)
    assert times() == before


def test_a_place_where_it_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in its place")
    with pytest.raises(ModelFolderError, match=r"cannot be made at .*/models"):
        tiny_folder(tmp_path / "models")
