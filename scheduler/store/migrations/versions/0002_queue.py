"""The queue: events, reservations, fair share, drains with deadlines, and deferred jobs out of the claims' way."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Tables that no other refers to are made anew around their rows, which both engines do alike; `column: expression` is
# what a new column holds in an old row.
_REBUILT = {
    "job_states": {
        "virtual_at": "(SELECT j.created_at FROM jobs j WHERE j.id = old.job_id)",
        "steps": "(SELECT CAST(j.params ->> 'num_inference_steps' AS integer) FROM jobs j WHERE j.id = old.job_id)",
        "ready_at": "(SELECT j.created_at FROM jobs j WHERE j.id = old.job_id)",
    },
    "leases": {
        "started_at": "(SELECT a.started_at FROM attempts a WHERE a.job_id = old.job_id AND a.lease = old.lease)",
        "predicted_seconds": "(SELECT a.predicted_seconds FROM attempts a"
        " WHERE a.job_id = old.job_id AND a.lease = old.lease)",
        "release_requested_at": "NULL",
        "progress_at": "old.expires_at",
    },
    "attempts": {"model": "(SELECT j.model FROM jobs j WHERE j.id = old.job_id)"},
    "workers": {"can_load": "'[]'", "condemned": "NULL"},
}


def upgrade() -> None:
    """Apply it."""
    for table, filled in _REBUILT.items():
        _rebuild(table, filled)
    _add_tables()
    op.execute(
        "INSERT INTO drains (gpu_id, mode, asked_at, on_deadline)"
        " SELECT id, 'finish', state_changed_at, 'checkpoint' FROM gpus WHERE state IN ('draining', 'drained')"
    )


def _rebuild(table: str, filled: dict[str, str]) -> None:
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)]
    op.execute(f"CREATE TABLE old AS SELECT * FROM {table}")  # noqa: S608  a name from above
    op.drop_table(table)
    _CREATE[table]()
    names = ", ".join([*columns, *filled])
    values = ", ".join([*(f"old.{column}" for column in columns), *filled.values()])
    op.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM old")  # noqa: S608  likewise
    op.drop_table("old")


def _create_job_states() -> None:
    op.create_table(
        "job_states",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("priority", sa.Double(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("est_model_bytes", sa.BigInteger(), nullable=False),
        sa.Column("est_working_bytes", sa.BigInteger(), nullable=False),
        sa.Column("est_seconds", sa.Double(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("virtual_at", sa.Double(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("memory_class", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cancel_requested_at", sa.Double(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(status = 'failed') = (error_code IS NOT NULL)", name=op.f("ck_job_states_failed_has_error")
        ),
        sa.CheckConstraint(
            "(status IN ('queued', 'running')) = (finished_at IS NULL)", name=op.f("ck_job_states_ended_has_time")
        ),
        sa.CheckConstraint(
            "status <> 'running' OR (lease > 0 AND started_at IS NOT NULL)",
            name=op.f("ck_job_states_running_has_lease"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_job_states_status")
        ),
        sa.CheckConstraint("lease >= attempts AND attempts >= 0", name=op.f("ck_job_states_attempts")),
        sa.CheckConstraint("not_before >= 0", name=op.f("ck_job_states_not_before")),
        sa.CheckConstraint(
            "priority > 0 AND weight > 0 AND est_seconds > 0 AND memory_class > 0", name=op.f("ck_job_states_positive")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_states_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_states")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_job_states_claim",
        "job_states",
        ["model", "plan", "memory_class", sa.literal_column("rank DESC"), "job_id", "est_seconds"],
        unique=False,
        sqlite_where=sa.text("status = 'queued' AND not_before = 0"),
        postgresql_where=sa.text("status = 'queued' AND not_before = 0"),
    )
    op.create_index(
        "ix_job_states_deferred",
        "job_states",
        ["status", "not_before"],
        unique=False,
        sqlite_where=sa.text("status = 'queued' AND not_before > 0"),
        postgresql_where=sa.text("status = 'queued' AND not_before > 0"),
    )
    op.create_index(
        "ix_job_states_ended",
        "job_states",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_job_states_line",
        "job_states",
        ["model", "plan", sa.literal_column("rank DESC"), "job_id", "est_seconds"],
        unique=False,
        sqlite_where=sa.text("status = 'queued' AND not_before = 0"),
        postgresql_where=sa.text("status = 'queued' AND not_before = 0"),
    )
    op.create_index("ix_job_states_status", "job_states", ["status", "job_id"], unique=False)


def _create_leases() -> None:
    op.create_table(
        "leases",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("predicted_seconds", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("release_requested_at", sa.Double(), nullable=True),
        sa.Column("progress_at", sa.Double(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "stage IN ('loading', 'encoding', 'denoising', 'decoding', 'muxing')", name=op.f("ck_leases_stage")
        ),
        sa.CheckConstraint("reserved_bytes > 0 AND lease > 0", name=op.f("ck_leases_positive")),
        sa.CheckConstraint("step >= 0 AND step <= steps", name=op.f("ck_leases_step")),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"], name=op.f("fk_leases_gpu_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_leases_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_leases")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_leases_gpu_id"), "leases", ["gpu_id"], unique=False)


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("predicted_vram_bytes", sa.BigInteger(), nullable=False),
        sa.Column("predicted_seconds", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("vram_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("run_seconds", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'retried', 'released', 'cancelled', 'expired')",
            name=op.f("ck_attempts_outcome"),
        ),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name=op.f("ck_attempts_ended_has_outcome")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id"), ondelete="CASCADE"),
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


def _create_workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("resident_bytes", sa.BigInteger(), nullable=False),
        sa.Column("can_load", sa.JSON(), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("condemned", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.CheckConstraint("resident_bytes >= 0", name=op.f("ck_workers_resident_bytes")),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"], name=op.f("fk_workers_gpu_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index(op.f("ix_workers_gpu_id"), "workers", ["gpu_id"], unique=False)


_CREATE = {
    "job_states": _create_job_states,
    "leases": _create_leases,
    "attempts": _create_attempts,
    "workers": _create_workers,
}


def _add_tables() -> None:
    op.create_table(
        "drains",
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("on_deadline", sa.String(), nullable=False),
        sa.Column("resume_at", sa.Double(), nullable=True),
        sa.CheckConstraint("mode IN ('finish', 'checkpoint')", name=op.f("ck_drains_mode")),
        sa.CheckConstraint("on_deadline IN ('checkpoint', 'kill')", name=op.f("ck_drains_on_deadline")),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"], name=op.f("fk_drains_gpu_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gpu_id", name=op.f("pk_drains")),
    )
    op.create_table(
        "reservations",
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.CheckConstraint("reserved_bytes > 0", name=op.f("ck_reservations_reserved_bytes")),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"], name=op.f("fk_reservations_gpu_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reservations_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gpu_id", name=op.f("pk_reservations")),
        sa.UniqueConstraint("job_id"),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("virtual_at", sa.Double(), nullable=False),
        sa.CheckConstraint("share > 0", name=op.f("ck_tenants_share")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "queue_state",
        sa.Column("only_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("order_signature", sa.String(), nullable=False),
        sa.Column("paused_at", sa.Double(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("pause_actor", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(paused_at IS NULL) = (pause_reason IS NULL)", name=op.f("ck_queue_state_pause_has_reason")
        ),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_queue_state_only_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_queue_state")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("position"),
    )
    op.create_index("ix_events_subject", "events", ["subject", "position"], unique=False)
    op.create_index(
        "ix_events_unnumbered",
        "events",
        ["id"],
        unique=False,
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
