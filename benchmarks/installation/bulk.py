"""Many rows at once, by the driver: SQLAlchemy would take several times as long."""

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection


def insert(conn: Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows, all of which have the columns of the first (two at least); JSON is text."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    names = ", ".join(first)
    values = map(itemgetter(*first), chain([first], rows))
    driver: Any = conn.connection.driver_connection
    if conn.dialect.name == "sqlite":
        places = ", ".join("?" * len(first))
        driver.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608  our own names
        return
    with driver.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)
