"""Bring a database to this version's schema, or say clearly why not."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from scheduler.errors import DatabaseNewer
from scheduler.store.database import Database

HEAD = "0011"
_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Run the migrations that are missing, in one transaction; many processes may call it at once.

    Raises `DatabaseNewer` when the database was made by a later version.
    """
    with database.read() as conn:
        if _revision(conn) == HEAD:
            return
    with database.write() as conn:
        database.without_limits(conn)  # a large database takes minutes, and the others wait for it
        database.lock_all(conn)
        revision = _revision(conn)
        if revision == HEAD:
            return
        _refuse_unknown(revision)
        _upgrade(conn)


def _revision(conn: Connection) -> str | None:
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _refuse_unknown(revision: str | None) -> None:
    known = {path.name.split("_")[0] for path in (_SCRIPTS / "versions").glob("[0-9]*.py")}
    if revision is not None and revision not in known:
        raise DatabaseNewer(
            f"the database is at schema {revision}, newer than this version of reelq knows ({HEAD}): upgrade reelq"
        )


def _upgrade(conn: Connection) -> None:
    from alembic import command  # costs 0.2 s, paid only when there is something to do
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
