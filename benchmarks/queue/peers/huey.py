"""huey on SQLite."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import huey
from huey.consumer import Consumer

from benchmarks.queue.systems import PAYLOAD, Calls, ThreadedSystem


class Huey(ThreadedSystem):
    """Its defaults on SQLite, with `fsync`: WAL and `synchronous = FULL`. A claim deletes the job: at most once."""

    def _queue(self) -> huey.SqliteHuey:
        logging.getLogger("huey").setLevel(logging.ERROR)
        return huey.SqliteHuey("bench", filename=self.url, fsync=True)

    def install(self) -> None:
        """Let it make its tables."""
        self._queue()

    def fill(self, jobs: int) -> None:
        """Insert copies of one enqueued task."""
        queue = self._queue()
        task = queue.task(name="job")(_nothing)
        blob = queue.serialize_task(task.s("{}"))
        storage = queue.storage
        storage.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO task (queue, data, priority) SELECT ?, ?, 0 FROM n",
            (jobs, storage.name, storage.to_blob(blob)),
            commit=True,
        )
        storage.sql("PRAGMA wal_checkpoint(TRUNCATE)", results=True)

    @contextmanager
    def calls(self) -> Iterator[Calls]:
        """Enqueue and dequeue as its tasks and consumer do."""
        queue = self._queue()
        task = queue.task(name="job")(_nothing)
        yield Calls(submit=lambda: task(PAYLOAD), claim=queue.dequeue, finish=lambda _job: None)
        queue.storage.close()

    def work(self, ran: Callable[[], None], *, until_empty: bool) -> None:
        """Run its consumer with one worker thread."""
        queue = self._queue()
        queue.task(name="job")(lambda _payload: ran())
        consumer = Consumer(queue, workers=1)
        if until_empty:
            threading.Thread(target=_stop_when_empty, args=(queue, consumer), daemon=True).start()
        consumer.run()


def _stop_when_empty(queue: huey.SqliteHuey, consumer: Consumer) -> None:
    while queue.storage.queue_size():
        time.sleep(0.2)
    consumer.stop_flag.set()


def _nothing(payload: str) -> None:
    pass


SYSTEM = Huey
