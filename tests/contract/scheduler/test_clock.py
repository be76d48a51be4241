"""The clock that leases run on is the database's own."""

import time

from scheduler.store.database import Database


def test_the_databases_clock_tells_the_time_with_fractions(database_url: str) -> None:
    database = Database(database_url)
    try:
        with database.read() as conn:
            readings = [database.now(conn) for _ in range(20)]
    finally:
        database.close()

    assert abs(readings[0] - time.time()) < 5
    assert readings == sorted(readings)
    assert any(reading % 1 for reading in readings)


def test_it_moves_on_within_a_transaction(database_url: str) -> None:
    """A lease granted at the end of a long transaction runs from then, not from the transaction's start."""
    database = Database(database_url)
    try:
        with database.write() as conn:
            first = database.now(conn)
            deadline = time.monotonic() + 5
            while database.now(conn) == first:
                assert time.monotonic() < deadline, "the clock stands still"
    finally:
        database.close()
