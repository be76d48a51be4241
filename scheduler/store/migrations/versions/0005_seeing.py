"""Seeing it: samples of the GPUs, what others hold of their memory, attempts that outlive their jobs, and alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_GAUGES = (
    "used_bytes",
    "foreign_bytes",
    "reserved_bytes",
    "utilization_percent",
    "power_watts",
    "temperature_celsius",
)


def upgrade() -> None:
    """Make the attempts anew around their rows, then add the rest."""
    kept = ", ".join(column["name"] for column in sa.inspect(op.get_bind()).get_columns("attempts"))
    op.execute("CREATE TABLE old_attempts AS SELECT a.*, j.tenant FROM attempts a JOIN jobs j ON j.id = a.job_id")
    op.drop_table("attempts")
    _create_attempts()
    op.execute(f"INSERT INTO attempts ({kept}, tenant) SELECT {kept}, tenant FROM old_attempts")  # noqa: S608  names
    op.drop_table("old_attempts")
    op.add_column("gpus", sa.Column("foreign_bytes", sa.BigInteger(), nullable=True))
    op.add_column("gpus", sa.Column("power_watts", sa.Double(), nullable=True))
    _create_gpu_samples()
    _create_alerts()


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("shape", sa.String(), nullable=False),
        sa.Column("gpu_kind", sa.String(), nullable=False),
        sa.Column("predicted_vram_bytes", sa.BigInteger(), nullable=False),
        sa.Column("predicted_seconds", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("vram_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("run_seconds", sa.Double(), nullable=True),
        sa.Column("resumed_from_step", sa.Integer(), nullable=True),
        sa.Column("working_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("steps", sa.Integer(), nullable=True),
        sa.Column("step_seconds", sa.Double(), nullable=True),
        sa.Column("fixed_seconds", sa.Double(), nullable=True),
        sa.Column("sharing", sa.Integer(), nullable=True),
        sa.Column("energy_joules", sa.Double(), nullable=True),
        sa.Column("stage_seconds", sa.JSON(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'retried', 'released', 'cancelled', 'expired')",
            name=op.f("ck_attempts_outcome"),
        ),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name=op.f("ck_attempts_ended_has_outcome")),
        sa.PrimaryKeyConstraint("job_id", "lease", name=op.f("pk_attempts")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_attempts_succeeded",
        "attempts",
        ["model", "plan", sa.literal_column("ended_at DESC")],
        unique=False,
        sqlite_where=sa.text("outcome = 'succeeded'"),
        postgresql_where=sa.text("outcome = 'succeeded'"),
    )
    op.create_index("ix_attempts_ended", "attempts", ["ended_at"], unique=False)


def _create_gpu_samples() -> None:
    gauges: list[sa.Column[float]] = []
    for name in _GAUGES:
        gauges += [
            sa.Column(f"{name}_sum", sa.Double(), nullable=False),
            sa.Column(f"{name}_count", sa.Integer(), nullable=False),
            sa.Column(f"{name}_max", sa.Double(), nullable=True),
        ]
    op.create_table(
        "gpu_samples",
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("step_seconds", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("hot_samples", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("busy_seconds", sa.Double(), nullable=False),
        *gauges,
        sa.CheckConstraint("at % step_seconds = 0", name=op.f("ck_gpu_samples_at")),
        sa.CheckConstraint(
            "samples > 0 AND hot_samples <= utilization_percent_count", name=op.f("ck_gpu_samples_counted")
        ),
        sa.CheckConstraint("busy_seconds >= 0 AND busy_seconds <= seconds", name=op.f("ck_gpu_samples_busy_seconds")),
        sa.PrimaryKeyConstraint("gpu_id", "step_seconds", "at", name=op.f("pk_gpu_samples")),
        sqlite_with_rowid=False,
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("fired_at", sa.Double(), nullable=True),
        sa.Column("resolved_at", sa.Double(), nullable=True),
        sa.CheckConstraint("resolved_at IS NULL OR fired_at IS NOT NULL", name=op.f("ck_alerts_resolved_has_fired")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    op.create_index(
        "ix_alerts_open",
        "alerts",
        ["rule", "subject"],
        unique=True,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index("ix_alerts_resolved", "alerts", ["resolved_at"], unique=False)
    op.create_table(
        "alert_turn",
        sa.Column("only_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_alert_turn_only_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_alert_turn")),
    )
