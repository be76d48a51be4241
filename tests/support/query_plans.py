"""How a database would answer a query."""

from typing import Any

from sqlalchemy import Select, text

from scheduler.service import Scheduler


def query_plan(scheduler: Scheduler, query: Select[Any]) -> list[str]:
    """Return the lines of the plan; PostgreSQL is told that it has better than reading or sorting small tables."""
    with scheduler.database.read() as conn:
        if scheduler.database.is_sqlite:
            explain = "EXPLAIN QUERY PLAN"
        else:
            explain = "EXPLAIN"
            for shortcut in ("seqscan", "bitmapscan", "sort"):
                conn.execute(text(f"SET LOCAL enable_{shortcut} = off"))
        compiled = query.compile(conn, compile_kwargs={"literal_binds": True})
        return [str(row[-1]) for row in conn.execute(text(f"{explain} {compiled}"))]
