"""The tiny model's folder: small, the same bytes each time, whole however many make it at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import torch

from workers import model_folder
from workers.pipelines.tiny import make_tiny

if TYPE_CHECKING:
    from pathlib import Path


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_it_is_small_and_has_the_published_layout(tiny_path: Path) -> None:
    folder = model_folder.inspect(tiny_path, name="tiny")
    assert folder.name == "tiny"
    assert folder.variant == "fp16"
    assert 0 < folder.weights_bytes < sum(map(len, contents(tiny_path).values())) < 4_000_000


def test_two_makings_give_the_same_bytes_and_no_random_state_is_touched(tiny_path: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    make_tiny(tmp_path / "models" / "again")
    assert torch.equal(torch.get_rng_state(), before)
    assert contents(tmp_path / "models" / "again") == contents(tiny_path)


def test_a_good_folder_is_left_alone_and_a_bad_one_replaced(tiny_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny"
    make_tiny(path)
    made = path.stat().st_ino
    make_tiny(path)
    assert path.stat().st_ino == made
    (path / "unet/config.json").write_text("{}")
    (path / "scheduler/scheduler_config.json").unlink()
    make_tiny(path)
    assert contents(path) == contents(tiny_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny"]


def test_nothing_but_a_model_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"cat")
    with pytest.raises(FileExistsError, match="not a model folder"):
        make_tiny(tmp_path / "photos")
    (tmp_path / "notes").write_text("a file")
    with pytest.raises(NotADirectoryError):
        make_tiny(tmp_path / "notes")
    assert contents(tmp_path) == {"photos/cat.jpg": b"cat", "notes": b"a file"}


def test_many_may_make_it_at_once(tiny_path: Path, tmp_path: Path) -> None:
    path, errors = tmp_path / "tiny", []
    start = threading.Barrier(4)

    def make() -> None:
        start.wait()
        try:
            make_tiny(path)
        except Exception as error:  # noqa: BLE001  whatever it is, the test reports it
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert contents(path) == contents(tiny_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny"]
