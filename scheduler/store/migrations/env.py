"""Alembic's entry: migrations run on the connection, and in the transaction, that `store.migrate` holds."""

from alembic import context

from scheduler.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
