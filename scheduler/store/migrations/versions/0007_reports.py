"""Reports at size: what ran when is told by an index alone."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Widen the index of attempts by their end."""
    op.drop_index("ix_attempts_ended", "attempts")
    op.create_index("ix_attempts_ended", "attempts", ["ended_at", "started_at", "gpu_id", "outcome"], unique=False)
