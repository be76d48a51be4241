"""The line that a failing worker leaves for its supervisor."""

from pathlib import Path

from workers import last_words


def test_the_first_line_is_left_and_taken_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    last_words.leave(tmp_path, "worker_a", "no driver\nmore of it")
    assert last_words.take(tmp_path, "worker_b") is None
    assert last_words.take(tmp_path, "worker_a") == "no driver"
    assert last_words.take(tmp_path, "worker_a") is None
    assert list((tmp_path / "run").iterdir()) == []


def test_an_error_without_a_message_leaves_nothing_to_tell(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    last_words.leave(tmp_path, "worker_a", "")
    assert last_words.take(tmp_path, "worker_a") is None


def test_a_folder_that_cannot_be_written_does_not_hide_the_failure(tmp_path: Path) -> None:
    last_words.leave(tmp_path / "missing", "worker_a", "no driver")
    assert last_words.take(tmp_path / "missing", "worker_a") is None
