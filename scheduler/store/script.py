"""Hot paths on the driver itself: statements that go to the database together, and come back together.

A claim or a heartbeat is a handful of tiny statements. SQLAlchemy's share of each is several times SQLite's, and on
PostgreSQL each is a round trip; so these few are plain SQL, compiled once, and PostgreSQL gets them as one pipeline.

A change and what goes with it are one `Chain`, which PostgreSQL gets as a single statement.

The text is the same for both engines, but for the macros of `_MACROS`, each with its reason there. Parameters are named
(`:job_id`), and each statement takes those that it knows.
"""

import json
import re
from collections import namedtuple
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection

from scheduler.store.eventlog import POSITION

_MACROS = {
    # SQLite has one writer at a time, and knows no row locks.
    "for_update": {"sqlite": "", "postgresql": "FOR UPDATE"},
    "skip_locked": {"sqlite": "", "postgresql": "FOR UPDATE SKIP LOCKED"},
    "reserving_alone": {"sqlite": "true", "postgresql": "pg_try_advisory_xact_lock(491327417458)"},  # "reelr"
    # A list that is there before PostgreSQL plans to look for its members is looked up, whatever the statistics say.
    "among": {"sqlite": "IN", "postgresql": "= ANY(ARRAY"},
    "end_among": {"sqlite": "", "postgresql": ")"},
    # PostgreSQL tells JSON from text; to SQLite, which does not, the cast would mean a number.
    "json": {"sqlite": "", "postgresql": "::json"},
    # The members of a JSON list of texts, as the column `value`.
    "each": {"sqlite": "json_each", "postgresql": "json_array_elements_text"},
    "position": POSITION,
}
_MACRO = re.compile(r"\{(\w+)\}")
_PARAMETER = re.compile(r"(?<!:):([a-z_][a-z_0-9]*)")


class Statement:
    """One SQL statement, ready for either driver; `postgres_only` is left out on SQLite."""

    def __init__(self, text: str, *, postgres_only: bool = False) -> None:
        self._by_clock: dict[tuple[str, str], str] = {}
        self._text = text
        self.postgres_only = postgres_only

    def sql(self, dialect: str, clock: str) -> str:
        """Return the text for a dialect, with `{now}` as the SQL expression `clock`."""
        known = self._by_clock.get((dialect, clock))
        if known is None:
            known = _MACRO.sub(lambda found: clock if found[1] == "now" else _MACROS[found[1]][dialect], self._text)
            if dialect == "postgresql":
                known = _PARAMETER.sub(r"%(\1)s", known.replace("%", "%%"))
            self._by_clock = {(dialect, clock): known}  # a process has one database; only tests change the clock
        return known


class Chain:
    """A statement that changes one row of `table`, and followers that do something only if it did.

    They read `{moved}`, the row as it has become. For PostgreSQL all are parts of one statement, with `moved` as what
    the first returns. SQLite, which cannot do that, executes one after the other, and `moved` is the row for which
    `still` holds; only the last follower may end that. `answer` is a SELECT on `{moved}`.
    """

    def __init__(self, first: str, *followers: str, table: str, still: str, answer: str) -> None:
        moved = f"(SELECT * FROM {table} WHERE {still})"  # noqa: S608  our own words
        self.steps = [Statement(text.replace("{moved}", moved)) for text in (first, answer, *followers)]
        parts = [f"moved AS ({first} RETURNING {table}.*)"]
        parts += [f"follower_{number} AS ({text})" for number, text in enumerate(followers)]
        self.whole = Statement(f"WITH {', '.join(parts)} {answer}".replace("{moved}", "moved"))


class Done(NamedTuple):
    """What a statement did: the rows it touched, and those it returned (by name)."""

    rowcount: int
    rows: list[Any]

    @property
    def row(self) -> Any:
        """The first row, or None."""
        return self.rows[0] if self.rows else None


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to insert into a table: all with the same columns, and in each the SQL `expressions` (macros allowed)."""

    table: str
    rows: list[dict[str, Any]]
    expressions: Mapping[str, str] = field(default_factory=dict)


def select(conn: Connection, statement: Statement, parameters: Mapping[str, Any], *, clock: str = "") -> list[Any]:
    """Return the rows (by name) of a statement that reads, inside a transaction of SQLAlchemy's.

    JSON is text, and a truth value a number, where SQLite has no other. `clock` is for `{now}`.
    """
    dialect = conn.dialect.name
    cursor = named_cursor(dialect, conn.connection.driver_connection)
    cursor.execute(statement.sql(dialect, clock), parameters)
    return list(cursor.fetchall())


def tuples(
    conn: Connection, statement: Statement, parameters: Mapping[str, Any], *, clock: str = ""
) -> list[tuple[Any, ...]]:
    """Do what `select` does, with plain rows: where there may be a hundred thousand, names would take the longest."""
    cursor = conn.connection.cursor()
    cursor.execute(statement.sql(conn.dialect.name, clock), parameters)
    return list(cursor.fetchall())


def named_cursor(dialect: str, connection: Any) -> Any:
    """Return a cursor of a driver's connection, whose rows have names."""
    if dialect == "postgresql":
        from psycopg.rows import namedtuple_row

        return connection.cursor(row_factory=namedtuple_row)
    cursor = connection.cursor()
    cursor.row_factory = lambda at, values: _row_type(tuple(column[0] for column in at.description))._make(values)
    return cursor


@cache
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)


class Trip:
    """An open write transaction on a driver's connection; on PostgreSQL it begins with the first statement."""

    def __init__(self, connection: Any, dialect: str, clock: str) -> None:
        self._connection = connection
        self._begun = False
        self.dialect = dialect
        self.clock = clock

    def cursor(self) -> Any:
        """Return a cursor whose rows have names."""
        return named_cursor(self.dialect, self._connection)

    def run(self, statements: Sequence[Statement], parameters: Mapping[str, Any]) -> list[Done]:
        """Execute the statements in order, in one round trip; returns what each did."""
        known = self._known(statements)
        with self._pipeline(len(known)):
            cursors = [self._execute(statement, parameters) for statement in known]
        return [_done(cursor) for cursor in cursors]

    def commit(self, chain: Chain, parameters: Mapping[str, Any], *, before: Sequence[Statement] = ()) -> Any:
        """Execute a chain, after some statements, and commit in the same round trip.

        Returns the row of the chain's answer, or None if it changed nothing.
        """
        if self.dialect == "sqlite":
            for statement in before:
                self._execute(statement, parameters)
            return self._commit_steps(chain, parameters)
        if not self._begun and not before:  # a statement alone is a transaction of its own
            return self._send(chain.whole, parameters).fetchone()
        with self._pipeline(2):
            for statement in before:
                self._execute(statement, parameters)
            answer = self._execute(chain.whole, parameters)
            self.end()
        return answer.fetchone()

    def _commit_steps(self, chain: Chain, parameters: Mapping[str, Any]) -> Any:
        first, answer, *followers = chain.steps
        if self._execute(first, parameters).rowcount != 1:
            return None
        row = self._execute(answer, parameters).fetchone()
        for follower in followers:
            self._execute(follower, parameters)
        self.end()
        return row

    def each(self, statement: Statement, parameters: Sequence[Mapping[str, Any]]) -> list[Done]:
        """Execute one statement with each of `parameters`, in one round trip; none of one that is PostgreSQL's only."""
        if not parameters or not self._known([statement]):
            return []
        with self._pipeline(len(parameters)):
            cursors = [self._execute(statement, one) for one in parameters]
        return [_done(cursor) for cursor in cursors]

    def row(self, statements: Sequence[Statement], parameters: Mapping[str, Any]) -> Any:
        """Do what `run` does; returns the first row of the last statement, or None."""
        return self.run(statements, parameters)[-1].row

    def insert(self, *batches: "Batch") -> None:
        """Insert batches of rows, and commit, in one round trip."""
        with self._pipeline(len(batches) + 1):
            for batch in filter(lambda batch: batch.rows, batches):
                self._insert(batch)
            self.end()

    def _insert(self, batch: "Batch") -> None:
        plain = list(batch.rows[0])
        names = ", ".join([*plain, *batch.expressions])
        if self.dialect == "postgresql":
            # One JSON array: a statement for each row would cost as much as all of them together.
            values = ", ".join([*plain, *batch.expressions.values()])
            source = f"SELECT {values} FROM json_populate_recordset(NULL::{batch.table}, :rows)"  # noqa: S608  our names
            self._execute(_insertion(batch.table, names, source), {"rows": json.dumps(batch.rows)})
        else:
            values = ", ".join([*(f":{name}" for name in plain), *batch.expressions.values()])
            sql = _insertion(batch.table, names, f"VALUES ({values})").sql(self.dialect, self.clock)
            self.cursor().executemany(sql, [_with_json_texts(row) for row in batch.rows])

    def begin(self) -> None:
        """Begin on SQLite, where what a trip reads must not change before it writes."""
        if self.dialect == "sqlite":
            self._connection.execute("BEGIN IMMEDIATE")
            self._begun = True

    def end(self) -> None:
        """Commit what has not been committed yet."""
        self._finish("COMMIT")

    def undo(self) -> None:
        """Roll back what has not been committed yet."""
        self._finish("ROLLBACK")

    def _finish(self, command: str) -> None:
        if self._begun:
            self._begun = False
            self._connection.execute(command)

    def _known(self, statements: Sequence[Statement]) -> Sequence[Statement]:
        if self.dialect == "postgresql":
            return statements
        return [statement for statement in statements if not statement.postgres_only]

    def _pipeline(self, count: int) -> AbstractContextManager[Any]:
        """One round trip for `count` statements; a single one, where nothing has to begin, is one by itself."""
        alone = count + (not self._begun) == 1
        return nullcontext() if self.dialect == "sqlite" or alone else self._connection.pipeline()

    def _execute(self, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        if not self._begun:
            self._connection.execute("BEGIN")
            self._begun = True
        return self._send(statement, parameters)

    def _send(self, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        cursor = self.cursor()
        cursor.execute(statement.sql(self.dialect, self.clock), parameters)
        return cursor


def _done(cursor: Any) -> Done:
    return Done(cursor.rowcount, cursor.fetchall() if cursor.description else [])


@cache
def _insertion(table: str, names: str, source: str) -> Statement:
    return Statement(f"INSERT INTO {table} ({names}) {source}")


def _with_json_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()}
