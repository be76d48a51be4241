"""Submits that were refused because no GPU could ever hold the job."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the table of refused submits."""
    op.create_table(
        "refused_submits",
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("shape", sa.String(), nullable=False),
        sa.Column("submits", sa.BigInteger(), nullable=False),
        sa.Column("needed_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("at % 3600 = 0", name=op.f("ck_refused_submits_at")),
        sa.CheckConstraint("submits > 0", name=op.f("ck_refused_submits_counted")),
        sa.PrimaryKeyConstraint("at", "model", "shape", name=op.f("pk_refused_submits")),
        sqlite_with_rowid=False,
    )
