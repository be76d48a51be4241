"""Traces: what a job's spans belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; jobs that are there have none."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(), nullable=True))
