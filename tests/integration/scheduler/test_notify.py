"""Wake-ups between machines on a real PostgreSQL, whatever happens to the connection."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
from sqlalchemy.engine import URL

from scheduler.notify import Notifier
from scheduler.outbox import Channel
from scheduler.wakeup import ANY_JOB, CHANGES, DISPATCH, JOBS_WAITING, Listener, Wakeup, job_topic
from tests.support.databases import PostgresServer
from tests.support.service import wait_for

NewMachine = Callable[[], Wakeup]
Query = Callable[[str], list[tuple[object, ...]]]
OURS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'reelq wake-ups'"
TOPICS = [job_topic(f"job_{number:026}") for number in range(600)]
GATHERING = {CHANGES: Channel("reelq_changes", anything=ANY_JOB, gather_seconds=3600)}


@pytest.fixture
def query(url: URL) -> Query:
    """Return a function that runs one statement on the database."""

    def run(statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(**url.get_dialect()().create_connect_args(url)[1], autocommit=True) as conn:
            return conn.execute(statement.encode()).fetchall()

    return run


@pytest.fixture
def spy(url: URL) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A plain connection that listens on the channel of changes."""
    with psycopg.connect(**url.get_dialect()().create_connect_args(url)[1], autocommit=True) as conn:
        conn.execute("LISTEN reelq_changes")
        yield conn


def hear(listener: Listener, wanted: Collection[str]) -> set[str]:
    """Wait until all `wanted` topics have come; returns all that came."""
    heard: set[str] = set()
    deadline = time.monotonic() + 30
    while not heard.issuperset(wanted):
        assert time.monotonic() < deadline, f"never heard {set(wanted) - heard}"
        heard |= listener.wait(deadline - time.monotonic())
    return heard


@pytest.mark.parametrize(
    ("channel", "topic", "anything"), [(DISPATCH, JOBS_WAITING, JOBS_WAITING), (CHANGES, job_topic("job_1"), ANY_JOB)]
)
def test_a_wake_up_reaches_every_machine(machine: NewMachine, channel: str, topic: str, anything: str) -> None:
    here, there = machine(), machine()
    with here.listen(channel) as near, there.listen(channel) as far, there.listen(channel) as beside:
        for listener in (near, far, beside):
            assert listener.wait(30) == {anything}, "it has just begun to listen, and may have missed something"
        here.notify(topic)

        assert near.wait(30) == far.wait(30) == beside.wait(30) == {topic}


def test_a_channel_is_not_woken_by_the_other(machine: NewMachine) -> None:
    here, there = machine(), machine()
    with there.listen(DISPATCH) as workers, there.listen(CHANGES) as watchers:
        hear(workers, {JOBS_WAITING})
        hear(watchers, {ANY_JOB})
        here.notify(job_topic("job_1"))
        hear(watchers, {job_topic("job_1")})
        here.notify(JOBS_WAITING)

        assert workers.wait(30) == {JOBS_WAITING}
        assert watchers.wait(0) == set()


def test_each_process_of_a_machine_hears_each_wake_up_once(machine: NewMachine, url: URL, data_dir: Path) -> None:
    worker, front_end, other = Wakeup(data_dir, url), Wakeup(data_dir, url), machine()
    one, two, three = job_topic("job_1"), job_topic("job_2"), job_topic("job_3")
    try:
        with worker.listen(CHANGES) as listener, front_end.listen(CHANGES) as beside, other.listen(CHANGES) as far:
            for each in (listener, beside, far):
                hear(each, {ANY_JOB})
            front_end.notify(one)
            assert listener.wait(30) == beside.wait(30) == {one}
            hear(far, {one})

            other.notify(two)
            assert hear(listener, {two}) == hear(beside, {two}) == {two}, "an echo of the first would have come before"
            other.notify(three)
            assert hear(listener, {three}) == hear(beside, {three}) == {three}, "nor do the two deliver to each other"
    finally:
        worker.close()
        front_end.close()


def test_of_many_topics_at_once_none_is_lost(machine: NewMachine) -> None:
    here, there = machine(), machine()
    with there.listen(CHANGES) as listener:
        hear(listener, {ANY_JOB})
        sender = threading.Thread(target=lambda: [here.notify(topic) for topic in TOPICS])
        sender.start()

        assert hear(listener, TOPICS) == set(TOPICS)
        sender.join()


def test_topics_gather_and_closing_sends_them_in_few_messages(
    url: URL, spy: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    notifier = Notifier(url, "here", GATHERING, lambda channel, topics: None)
    notifier.send(CHANGES, TOPICS[0])
    (first,) = spy.notifies(timeout=30, stop_after=1)
    for topic in TOPICS[1:]:
        notifier.send(CHANGES, topic)
    notifier.close()
    rest = [message.payload.split("\n") for message in spy.notifies(timeout=30, stop_after=3)]

    assert first.payload == f"here\n{TOPICS[0]}", "the first of an idle channel goes at once"
    assert [lines[0] for lines in rest] == ["here"] * 3
    assert {topic for lines in rest for topic in lines[1:]} == set(TOPICS[1:])


def test_a_topic_that_cannot_be_sent_becomes_one_that_says_anything(machine: NewMachine) -> None:
    here, there = machine(), machine()
    with there.listen(CHANGES) as listener:
        hear(listener, {ANY_JOB})
        here.notify(job_topic("\0"))

        assert listener.wait(30) == {ANY_JOB}


@pytest.mark.parametrize("disturb", ["terminate", "restart"])
def test_a_lost_connection_comes_back_by_itself(
    machine: NewMachine, query: Query, postgres_server: PostgresServer, disturb: str
) -> None:
    here, there = machine(), machine()
    with there.listen(DISPATCH) as workers, there.listen(CHANGES) as watchers:
        hear(workers, {JOBS_WAITING})
        hear(watchers, {ANY_JOB})
        here.notify(job_topic("job_1"))
        hear(watchers, {job_topic("job_1")})

        if disturb == "terminate":
            assert query(f"SELECT pg_terminate_backend(pid) {OURS}") == [(True,), (True,)]
        else:
            postgres_server.restart()

        assert workers.wait(30) == {JOBS_WAITING}, "anything may have been missed"
        assert watchers.wait(30) == {ANY_JOB}
        here.notify(JOBS_WAITING)
        here.notify(job_topic("job_2"))
        assert workers.wait(30) == {JOBS_WAITING}
        assert watchers.wait(30) <= {job_topic("job_2"), ANY_JOB}, "the latter if it was sent into the lost connection"


def test_a_listener_made_while_the_database_is_away_hears_when_it_is_back(
    machine: NewMachine, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine()
    attempts = count_connections(monkeypatch)
    with structlog.testing.capture_logs() as logs:
        with postgres_server.stopped():
            listener = here.listen(CHANGES)
            wait_for(lambda: len(attempts) >= 3, "attempts to connect")
            here.notify(TOPICS[0])
            assert listener.wait(30) == {TOPICS[0]}, "on its own machine all is as ever"
        with listener:
            hear(listener, {ANY_JOB})
            machine().notify(TOPICS[1])
            hear(listener, {TOPICS[1]})

    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "no wake-ups between machines, polling instead"
    ], "one for an outage, however many attempts"


def count_connections(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that grows with every attempt to connect."""
    attempts: list[None] = []
    connect = psycopg.connect

    def counted(*args: object, **kwargs: object) -> object:
        attempts.append(None)
        return connect(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg, "connect", counted)
    return attempts


def test_a_process_has_one_connection_and_closing_leaves_nothing(data_dir: Path, url: URL, query: Query) -> None:
    before = open_files()
    wakeup = Wakeup(data_dir, url)
    assert query(f"SELECT pid {OURS}") == [], "none before there is a use for it"
    with wakeup.listen(DISPATCH) as workers, wakeup.listen(CHANGES) as watchers:
        wakeup.notify(JOBS_WAITING)
        hear(workers, {JOBS_WAITING})
        hear(watchers, {ANY_JOB})
        assert len(query(f"SELECT pid {OURS}")) == 1
    wakeup.close()

    assert own_threads() == []
    assert list((data_dir / "run").iterdir()) == []
    assert open_files() == before
    wait_for(lambda: query(f"SELECT pid {OURS}") == [], "the end of the session")


def test_closing_while_the_database_is_away_leaves_nothing(
    data_dir: Path, url: URL, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = count_connections(monkeypatch)
    with postgres_server.stopped():
        wakeup = Wakeup(data_dir, url)
        with wakeup.listen(DISPATCH):
            wait_for(lambda: len(attempts) >= 2, "attempts to connect")
            wakeup.notify(JOBS_WAITING)
        wakeup.close()

        assert own_threads() == []
        assert list((data_dir / "run").iterdir()) == []


def open_files() -> int:
    """How many descriptors this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))


def own_threads() -> list[threading.Thread]:
    """The threads of all notifiers in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "wake-ups"]
