"""Wake-ups between processes: delivered at once, never in the way."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.errors import StoreUnreachable
from scheduler.wakeup import ANY_JOB, CHANGES, DISPATCH, JOBS_WAITING, Wakeup, job_of, job_topic


@pytest.fixture
def wakeup(data_dir: Path) -> Iterator[Wakeup]:
    wakeup = Wakeup(data_dir)
    yield wakeup
    wakeup.close()


def test_each_channel_hears_its_topics(wakeup: Wakeup) -> None:
    with wakeup.listen(DISPATCH) as workers, wakeup.listen(CHANGES) as watchers:
        wakeup.notify(JOBS_WAITING)
        wakeup.notify(job_topic("job_1"))
        wakeup.notify(job_topic("job_1"))
        wakeup.notify(job_topic("job_2"))

        assert workers.wait(5) == {JOBS_WAITING}
        assert watchers.wait(5) == {"job:job_1", "job:job_2"}
        assert workers.wait(0) == watchers.wait(0) == set()


def test_every_listener_hears_every_process(wakeup: Wakeup, data_dir: Path) -> None:
    other = Wakeup(data_dir)
    try:
        with wakeup.listen(DISPATCH) as one, other.listen(DISPATCH) as two:
            other.notify(JOBS_WAITING)
            assert one.wait(5) == two.wait(5) == {JOBS_WAITING}
    finally:
        other.close()


def test_a_topic_tells_its_job() -> None:
    assert job_of(job_topic("job_1")) == "job_1"
    assert job_of(JOBS_WAITING) is None
    assert job_of(ANY_JOB) is None


def test_a_closed_listener_leaves_nothing_behind(wakeup: Wakeup, data_dir: Path) -> None:
    with wakeup.listen(DISPATCH):
        assert len(list((data_dir / "run").iterdir())) == 1
    assert list((data_dir / "run").iterdir()) == []


def test_the_socket_of_a_dead_process_is_removed(wakeup: Wakeup, data_dir: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = data_dir / "run" / f"{DISPATCH}-{ended.pid}-dead.sock"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(left))
    dead.close()
    with wakeup.listen(DISPATCH) as listener:
        wakeup.notify(JOBS_WAITING)

        assert listener.wait(5) == {JOBS_WAITING}
        assert not left.exists()


def test_a_full_buffer_never_blocks(wakeup: Wakeup) -> None:
    """Far more than any socket buffer holds; nobody reads. A blocking send would hang here."""
    with wakeup.listen(CHANGES) as listener:
        for number in range(5000):
            wakeup.notify(job_topic(f"job_{number}"))

        heard = listener.wait(0)
        assert 0 < len(heard) < 5000
        wakeup.notify(job_topic("job_after"))
        assert listener.wait(5) == {"job:job_after"}, "and it goes on once there is room"


def test_a_data_directory_longer_than_a_socket_address_works(data_dir: Path) -> None:
    long = data_dir / ("x" * 200)
    long.mkdir()
    one, two = Wakeup(long), Wakeup(long)
    try:
        with one.listen(DISPATCH) as listener:
            two.notify(JOBS_WAITING)
            assert listener.wait(5) == {JOBS_WAITING}
        assert list((long / "run").iterdir()) == []
    finally:
        one.close()
        two.close()


def test_the_folder_is_private(wakeup: Wakeup, data_dir: Path) -> None:
    assert (data_dir / "run").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_used_is_one_clear_line(data_dir: Path) -> None:
    (data_dir / "run").write_text("")

    with pytest.raises(StoreUnreachable, match=r"cannot use the folder .*run: File exists"):
        Wakeup(data_dir)


def test_a_listener_works_in_a_process_with_many_files(wakeup: Wakeup) -> None:
    """A descriptor above 1023 is more than select() takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this machine allows no more than 1024 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with wakeup.listen(DISPATCH) as listener:
            wakeup.notify(JOBS_WAITING)
            assert listener.wait(5) == {JOBS_WAITING}
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_with_sqlite_wake_ups_stay_on_the_machine(data_dir: Path) -> None:
    """No thread, no driver of PostgreSQL, and nothing heard but what was sent."""
    code = f"""
import sys, threading
from pathlib import Path
from sqlalchemy.engine import make_url
from scheduler.wakeup import DISPATCH, JOBS_WAITING, Wakeup
wakeup = Wakeup(Path({str(data_dir)!r}), make_url("sqlite:///reelq.db"))
with wakeup.listen(DISPATCH) as listener:
    assert listener.wait(0) == set()
    wakeup.notify(JOBS_WAITING)
    assert listener.wait(5) == {{JOBS_WAITING}}
    assert threading.active_count() == 1
    assert "psycopg" not in sys.modules
wakeup.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
