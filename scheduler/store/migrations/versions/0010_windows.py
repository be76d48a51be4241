"""The off-peak window: jobs that start only in it, and the windows by which they were put off."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_FOR_WINDOW = sa.text("status = 'queued' AND start_window IS NOT NULL")
_DEFERRED = sa.text("status = 'queued' AND not_before > 0")


def upgrade() -> None:
    """Add the columns, and index what waits for a window by its rank."""
    op.add_column("jobs", sa.Column("asked_not_before", sa.Double(), nullable=True))
    op.add_column("job_states", sa.Column("start_window", sa.String(), nullable=True))
    op.add_column("queue_state", sa.Column("windows_signature", sa.String(), nullable=True))
    op.drop_index("ix_job_states_deferred", "job_states")
    op.create_index(
        "ix_job_states_deferred",
        "job_states",
        ["status", "not_before", sa.literal_column("rank DESC")],
        unique=False,
        sqlite_where=_DEFERRED,
        postgresql_where=_DEFERRED,
    )
    op.create_index(
        "ix_job_states_window",
        "job_states",
        ["status", "not_before"],
        unique=False,
        sqlite_where=_FOR_WINDOW,
        postgresql_where=_FOR_WINDOW,
    )
