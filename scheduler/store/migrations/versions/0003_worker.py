"""The worker: several plans a GPU, lanes, checkpoints, what runs have needed, and held models."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# `Shape.key`, as it is for jobs from before the presets.
_SHAPE = """
    (SELECT (j.params ->> 'width') || 'x' || (j.params ->> 'height') || 'x' || (j.params ->> 'num_frames')
            || CASE WHEN CAST(j.params ->> 'guidance_scale' AS double precision) > 1.0 THEN '' ELSE ',unguided' END
     FROM jobs j WHERE j.id = old.job_id)
"""
_KIND = "coalesce((SELECT g.kind FROM gpus g WHERE g.id = old.gpu_id), '')"
_LIST_OF_ONE = {"sqlite": "json_array(old.plan)", "postgresql": "json_build_array(old.plan)"}


def upgrade() -> None:
    """Make these tables anew around their rows, which both engines do alike, and add the new ones.

    They come in an order in which each refers to earlier ones only. `column: expression` is what a new column holds in
    an old row; a column that is no longer there is left out.
    """
    rebuilt: dict[str, dict[str, str]] = {
        "gpus": {"plans": _LIST_OF_ONE[op.get_bind().dialect.name]},
        "models": {"held_at": "NULL", "held_reason": "NULL"},
        "job_states": {"plan_reason": "''", "shape": _SHAPE, "notices": "'[]'"},
        "leases": {"lane": "0"},
        "attempts": {"shape": _SHAPE, "gpu_kind": _KIND},
        "results": {"preview_key": "NULL"},
        "workers": {},
        "drains": {},
        "reservations": {},
    }
    for table in reversed(rebuilt):
        op.execute(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")  # noqa: S608  a name from above
        op.drop_table(table)
    for table, filled in rebuilt.items():
        _CREATE[table]()
        _refill(table, filled)
    _create_checkpoints()
    _create_observations()


def _refill(table: str, filled: dict[str, str]) -> None:
    look = sa.inspect(op.get_bind())
    known = {column["name"] for column in look.get_columns(f"old_{table}")}
    kept = [column["name"] for column in look.get_columns(table) if column["name"] in known]
    names = ", ".join([*kept, *filled])
    values = ", ".join([*(f"old.{column}" for column in kept), *filled.values()])
    op.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM old_{table} AS old")  # noqa: S608  likewise
    op.drop_table(f"old_{table}")


def _create_gpus() -> None:
    op.create_table(
        "gpus",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("plans", sa.JSON(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("headroom_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.String(), nullable=True),
        sa.Column("state_changed_at", sa.Double(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=True),
        sa.Column("free_bytes", sa.BigInteger(), nullable=True),
        sa.Column("utilization_percent", sa.Double(), nullable=True),
        sa.Column("temperature_celsius", sa.Double(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state = 'active' OR reason IS NOT NULL", name=op.f("ck_gpus_reason")),
        sa.CheckConstraint("state IN ('active', 'draining', 'drained', 'faulted')", name=op.f("ck_gpus_state")),
        sa.CheckConstraint("(used_bytes IS NULL) = (free_bytes IS NULL)", name=op.f("ck_gpus_memory_known_or_not")),
        sa.CheckConstraint("total_bytes > headroom_bytes AND headroom_bytes >= 0", name=op.f("ck_gpus_total")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gpus")),
    )


def _create_models() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("weights_bytes", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("held_at", sa.Double(), nullable=True),
        sa.Column("held_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("(held_at IS NULL) = (held_reason IS NULL)", name=op.f("ck_models_held_has_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
    )


def _create_job_states() -> None:
    op.create_table(
        "job_states",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("priority", sa.Double(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("plan_reason", sa.Text(), nullable=False),
        sa.Column("shape", sa.String(), nullable=False),
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
        sa.Column("notices", sa.JSON(), nullable=False),
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
        sa.Column("lane", sa.Integer(), nullable=False),
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


def _create_results() -> None:
    op.create_table(
        "results",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("video_key", sa.String(), nullable=False),
        sa.Column("thumbnail_key", sa.String(), nullable=False),
        sa.Column("preview_key", sa.String(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("num_frames", sa.Integer(), nullable=False),
        sa.Column("fps", sa.Integer(), nullable=False),
        sa.Column("duration_seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_results_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_results")),
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
        sa.Column("plan", sa.String(), nullable=True),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("condemned", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.CheckConstraint("resident_bytes >= 0", name=op.f("ck_workers_resident_bytes")),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"], name=op.f("fk_workers_gpu_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index(op.f("ix_workers_gpu_id"), "workers", ["gpu_id"], unique=False)


def _create_drains() -> None:
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


def _create_reservations() -> None:
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


def _create_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("saved_at", sa.Double(), nullable=False),
        sa.CheckConstraint("step > 0 AND bytes > 0 AND lease > 0", name=op.f("ck_checkpoints_positive")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_checkpoints_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_checkpoints")),
        sqlite_with_rowid=False,
    )


def _create_observations() -> None:
    op.create_table(
        "observations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("gpu_kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("shape", sa.String(), nullable=False),
        sa.Column("working_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("step_seconds", sa.Double(), nullable=True),
        sa.Column("fixed_seconds", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "source IN ('calibration', 'attempt', 'out_of_memory')", name=op.f("ck_observations_source")
        ),
        sa.CheckConstraint(
            "working_peak_bytes IS NOT NULL OR (step_seconds IS NOT NULL AND fixed_seconds IS NOT NULL)",
            name=op.f("ck_observations_something"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observations")),
    )
    op.create_index("ix_observations_shape", "observations", ["gpu_kind", "model", "plan", "shape", "id"], unique=False)


_CREATE = {
    "gpus": _create_gpus,
    "models": _create_models,
    "job_states": _create_job_states,
    "leases": _create_leases,
    "attempts": _create_attempts,
    "results": _create_results,
    "workers": _create_workers,
    "drains": _create_drains,
    "reservations": _create_reservations,
}
