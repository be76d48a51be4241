"""The databases that campaigns run on."""

from tests.support.databases import data_dir, engine, fresh_database, postgres_server, sqlite_template

__all__ = ["data_dir", "engine", "fresh_database", "postgres_server", "sqlite_template"]
