"""What every blob store promises, asked of a folder and of a real S3 service."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler.blobs import BlobStore, open_blobs
from scheduler.errors import NotFound, StoreUnreachable

MakeFile = Callable[[bytes], Path]
CONTENT = bytes(range(256)) * 12_000  # 3 MB: several chunks


@pytest.fixture
def blobs(blob_url: str) -> BlobStore:
    return open_blobs(blob_url)


def read(blobs: BlobStore, key: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join(blobs.read(key, start, blobs.size(key) if length is None else length))


def test_what_is_put_is_read_back(blobs: BlobStore, make_file: MakeFile) -> None:
    source = make_file(CONTENT)

    blobs.put_file("jobs/job_1/1/video.mp4", source)
    source.unlink()

    assert blobs.size("jobs/job_1/1/video.mp4") == len(CONTENT)
    assert read(blobs, "jobs/job_1/1/video.mp4") == CONTENT


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 1), (0, 0), (5, 10), (256 * 1024 - 1, 2), (100, 2 * 1024 * 1024), (len(CONTENT) - 1, 1)],
)
def test_any_range_can_be_read(blobs: BlobStore, make_file: MakeFile, start: int, length: int) -> None:
    blobs.put_file("jobs/job_1/video.mp4", make_file(CONTENT))

    assert read(blobs, "jobs/job_1/video.mp4", start, length) == CONTENT[start : start + length]


def test_an_empty_file_is_a_file(blobs: BlobStore, make_file: MakeFile) -> None:
    blobs.put_file("jobs/job_1/empty", make_file(b""))

    assert blobs.size("jobs/job_1/empty") == 0
    assert read(blobs, "jobs/job_1/empty") == b""


def test_a_second_put_replaces_the_first(blobs: BlobStore, make_file: MakeFile) -> None:
    blobs.put_file("jobs/job_1/a", make_file(b"long before"))
    blobs.put_file("jobs/job_1/a", make_file(b"now"))

    assert read(blobs, "jobs/job_1/a") == b"now"


def test_what_is_not_there_is_not_found(blobs: BlobStore, make_file: MakeFile) -> None:
    blobs.put_file("jobs/job_1/a", make_file(b"x"))

    for key in ("jobs/job_2/a", "jobs/job_1/b", "jobs/job_1/a/b", "jobs/job_1"):
        with pytest.raises(NotFound):
            blobs.size(key)
        with pytest.raises(NotFound):
            list(blobs.read(key, 0, 1))


@pytest.mark.parametrize(
    "key",
    ["../a", "jobs/../../a", "jobs/..", "/etc/passwd", "", ".", "jobs//a", "jobs/a/", "jobs/a\n", "jobs/\x00", "Ä"],
)
def test_no_other_key_reaches_the_store(blobs: BlobStore, make_file: MakeFile, key: str) -> None:
    source = make_file(b"x")
    for call in (
        lambda: blobs.size(key),
        lambda: list(blobs.read(key, 0, 1)),
        lambda: blobs.put_file(key, source),
        lambda: blobs.delete_prefix(key),
        lambda: blobs.delete(key),
    ):
        with pytest.raises(NotFound):
            call()


def test_one_blob_can_be_deleted_and_again(blobs: BlobStore, make_file: MakeFile) -> None:
    for key in ("jobs/job_1/1/a", "jobs/job_1/1/b"):
        blobs.put_file(key, make_file(b"x"))

    for _ in range(2):
        blobs.delete("jobs/job_1/1/a")
    blobs.delete("jobs/job_1/1")  # names files below, and none itself

    with pytest.raises(NotFound):
        blobs.size("jobs/job_1/1/a")
    assert read(blobs, "jobs/job_1/1/b") == b"x"


def test_delete_takes_all_below_a_prefix_and_nothing_beside_it(blobs: BlobStore, make_file: MakeFile) -> None:
    gone = ["jobs/job_1/input.png", "jobs/job_1/1/video.mp4", "jobs/job_1/2/video.mp4"]
    kept = ["jobs/job_10/input.png", "jobs/job_2/input.png"]
    for key in [*gone, *kept]:
        blobs.put_file(key, make_file(b"x"))

    blobs.delete_prefix("jobs/job_1")

    for key in gone:
        with pytest.raises(NotFound):
            blobs.size(key)
    for key in kept:
        assert blobs.size(key) == 1
    blobs.delete_prefix("jobs/job_1")
    blobs.delete_prefix("jobs/job_2/input.png")
    assert blobs.size("jobs/job_2/input.png") == 1, "below a blob there is nothing"


def test_a_missing_source_stores_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        blobs.put_file("jobs/job_1/a", tmp_path / "missing")
    with pytest.raises(NotFound):
        blobs.size("jobs/job_1/a")


def test_the_store_can_be_opened_again(blob_url: str, make_file: MakeFile) -> None:
    open_blobs(blob_url).put_file("jobs/job_1/a", make_file(b"x"))

    assert open_blobs(blob_url).size("jobs/job_1/a") == 1


@pytest.mark.parametrize("blob_url", ["s3"], indirect=True)
class TestS3:
    def test_a_wrong_key_is_one_clear_line(self, blob_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        blobs = open_blobs(blob_url)

        with pytest.raises(StoreUnreachable) as refused:
            blobs.size("jobs/job_1/a")

        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 300

    def test_no_server_is_one_clear_line(self, blob_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
        blobs = open_blobs(blob_url)

        with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:9") as refused:
            blobs.size("jobs/job_1/a")

        assert "\n" not in str(refused.value)

    def test_an_endpoint_without_tls_needs_no_second_word(
        self, blob_url: str, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ALLOW_HTTP")

        open_blobs(blob_url).put_file("jobs/job_1/a", make_file(b"x"))

    def test_it_tells_no_limit(self, blob_url: str) -> None:
        assert open_blobs(blob_url).free_bytes() is None


def test_delete_tells_how_much_there_was(blobs: BlobStore, make_file: MakeFile) -> None:
    blobs.put_file("jobs/job_1/a", make_file(b"x"))
    blobs.put_file("jobs/job_1/2/b", make_file(b"x"))
    blobs.put_file("jobs/job_2/a", make_file(b"x"))

    assert sorted(blobs.folders("jobs")) == ["job_1", "job_2"]
    assert blobs.delete_prefix("jobs/job_1") == 2
    assert blobs.delete_prefix("jobs/job_1") == 0
    assert blobs.size("jobs/job_2/a") == 1
