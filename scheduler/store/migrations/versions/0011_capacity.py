"""Capacity: when the stop of a drained GPU's host was asked for, what was decided last, and the calls of the hook."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column and the tables."""
    op.add_column("drains", sa.Column("stopped_at", sa.Double(), nullable=True))
    op.create_table(
        "capacity_state",
        sa.Column("only_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("looked_at", sa.Double(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("online", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("lull_since", sa.Double(), nullable=True),
        sa.Column("lull_peak", sa.Integer(), nullable=True),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_capacity_state_only_row")),
        sa.CheckConstraint("(lull_since IS NULL) = (lull_peak IS NULL)", name=op.f("ck_capacity_state_lull")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_capacity_state")),
    )
    _create_calls()


def _create_calls() -> None:
    op.create_table(
        "capacity_calls",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(), nullable=True),
        sa.Column("gpus", sa.JSON(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("online", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.Column("dropped_at", sa.Double(), nullable=True),
        sa.Column("arrived_at", sa.Double(), nullable=True),
        sa.CheckConstraint("action IN ('start', 'stop')", name=op.f("ck_capacity_calls_action")),
        sa.CheckConstraint("(action = 'stop') = (host IS NOT NULL)", name=op.f("ck_capacity_calls_stop_has_host")),
        sa.CheckConstraint("count > 0 AND tries >= 0", name=op.f("ck_capacity_calls_counts")),
        sa.CheckConstraint(
            "(next_at IS NULL) = (done_at IS NOT NULL OR dropped_at IS NOT NULL)",
            name=op.f("ck_capacity_calls_over_or_not"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capacity_calls")),
    )
    op.create_index(
        "ix_capacity_calls_next",
        "capacity_calls",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index("ix_capacity_calls_asked", "capacity_calls", ["asked_at"], unique=False)
