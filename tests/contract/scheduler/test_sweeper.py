"""The sweeper: files without a job go, everything else stays."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler import ids
from scheduler.blobs import BlobStore, open_blobs
from scheduler.errors import NotFound
from scheduler.service import Scheduler
from scheduler.sweeper import Sweeper
from tests.support.databases import Clock
from tests.support.fleet import new_job, register_gpu


@pytest.fixture
def blobs(blob_url: str, make_file: Callable[[bytes], Path]) -> BlobStore:
    opened = open_blobs(blob_url)
    opened.put_file("readme", make_file(b"this service makes a bucket at the first put"))
    return opened


@pytest.fixture
def put(blobs: BlobStore, make_file: Callable[[bytes], Path]) -> Callable[[str], None]:
    return lambda key: blobs.put_file(key, make_file(b"x"))


def test_only_old_folders_without_a_job_go(
    scheduler: Scheduler, blobs: BlobStore, put: Callable[[str], None], clock: Clock
) -> None:
    clock.seconds = time.time()  # ids carry the machine's own time
    sweeper = Sweeper(scheduler.database, blobs)
    assert sweeper.run_once() == [], "a new store becomes this installation's"
    register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job()).job.id
    orphan = ids.new_id("job")
    for key in (f"jobs/{job_id}/image.png", f"jobs/{orphan}/image.png", "jobs/notes/read.me", "models/unet"):
        put(key)
    assert sweeper.run_once() == [], "a submission may be between its image and its commit"
    clock.advance(3700)

    assert sweeper.run_once() == [orphan]

    for kept in (f"jobs/{job_id}/image.png", "jobs/notes/read.me", "models/unet"):
        assert blobs.size(kept) == 1
    with pytest.raises(NotFound):
        blobs.size(f"jobs/{orphan}/image.png")
    assert sweeper.run_once() == []


def test_no_folder_at_all_is_nothing_to_sweep(scheduler: Scheduler, blobs: BlobStore) -> None:
    assert Sweeper(scheduler.database, blobs).run_once() == []


def test_files_of_another_installation_are_left_alone(
    scheduler: Scheduler, blobs: BlobStore, put: Callable[[str], None], clock: Clock
) -> None:
    clock.seconds = time.time()
    theirs = ids.new_id("job")
    put(f"jobs/{theirs}/1/video.mp4")
    clock.advance(3700)
    sweeper = Sweeper(scheduler.database, blobs)

    assert sweeper.run_once() == [], "a database that is pointed at a used store knows none of its jobs"
    put("installations/another/mark")
    assert sweeper.run_once() == []

    assert blobs.size(f"jobs/{theirs}/1/video.mp4") == 1
