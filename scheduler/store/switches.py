"""The whole queue's switches."""

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.store import schema as s


def switch(conn: Connection, **values: object) -> None:
    """Set some columns of `queue_state`; the others stay as they are."""
    at_first = {"only_row": 1, "order_signature": "", **values}
    insert = sqlite_insert if conn.dialect.name == "sqlite" else postgres_insert
    statement = insert(s.queue_state).values(at_first)
    conn.execute(statement.on_conflict_do_update(index_elements=["only_row"], set_=values))
