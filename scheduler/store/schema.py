"""The tables. Wide rows that never change stand apart from the narrow ones that always do.

Times are seconds since 1970 by the database's clock; sizes are bytes. CHECK constraints refuse rows that no
transition could have made.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from scheduler.states import GpuState, JobStatus, Outcome, Stage

metadata = MetaData(
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(column_0_label)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: type[JobStatus] | type[Stage] | type[Outcome] | type[GpuState]) -> str:
    listed = ", ".join(f"'{value.value}'" for value in values)
    return f"{column} IN ({listed})"


def _job_id() -> Column[str]:
    return Column("job_id", String, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


# What was asked for: written once.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("model", String, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("image_key", String, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    CheckConstraint("max_attempts >= 1", name="max_attempts"),
)

# Where the job stands: one row a job, moved only by the transitions.
job_states = Table(
    "job_states",
    metadata,
    _job_id(),
    Column("status", String, nullable=False),
    Column("model", String, nullable=False),
    Column("priority", Double, nullable=False),
    Column("plan", String, nullable=False),
    Column("est_model_bytes", BigInteger, nullable=False),
    Column("est_working_bytes", BigInteger, nullable=False),
    Column("est_seconds", Double, nullable=False),
    Column("weight", Double, nullable=False),
    Column("rank", Double, nullable=False),
    Column("memory_class", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("lease", BigInteger, nullable=False),  # the fence: monotonic, never reset
    Column("attempts", Integer, nullable=False),
    Column("cancel_requested_at", Double),
    Column("version", BigInteger, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("error_code", String),
    Column("error_message", Text),
    CheckConstraint(_one_of("status", JobStatus), name="status"),
    CheckConstraint("(status IN ('queued', 'running')) = (finished_at IS NULL)", name="ended_has_time"),
    CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
    CheckConstraint("status <> 'running' OR (lease > 0 AND started_at IS NOT NULL)", name="running_has_lease"),
    CheckConstraint("lease >= attempts AND attempts >= 0", name="attempts"),
    CheckConstraint("priority > 0 AND weight > 0 AND est_seconds > 0 AND memory_class > 0", name="positive"),
)
Index(
    "ix_job_states_claim",
    job_states.c.model,
    job_states.c.plan,
    job_states.c.memory_class,
    job_states.c.rank.desc(),
    job_states.c.job_id,
    sqlite_where=job_states.c.status == "queued",
    postgresql_where=job_states.c.status == "queued",
)
Index(
    "ix_job_states_queued_rank",
    job_states.c.rank.desc(),
    job_states.c.job_id,
    sqlite_where=job_states.c.status == "queued",
    postgresql_where=job_states.c.status == "queued",
)
Index("ix_job_states_status", job_states.c.status, job_states.c.job_id)

# The open leases: at most one a job, by the primary key. Heartbeats and progress touch only this table.
leases = Table(
    "leases",
    metadata,
    _job_id(),
    Column("lease", BigInteger, nullable=False),
    Column("gpu_id", String, ForeignKey("gpus.id"), nullable=False, index=True),
    Column("worker_id", String, nullable=False),
    Column("reserved_bytes", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("stage", String, nullable=False),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("fraction", Double, nullable=False),
    Column("reports", BigInteger, nullable=False),
    CheckConstraint(_one_of("stage", Stage), name="stage"),
    CheckConstraint("step >= 0 AND step <= steps", name="step"),
    CheckConstraint("reserved_bytes > 0 AND lease > 0", name="positive"),
)

# Every attempt ever made: predicted beside measured.
attempts = Table(
    "attempts",
    metadata,
    _job_id(),
    Column("lease", BigInteger, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("gpu_id", String, nullable=False),
    Column("worker_id", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("predicted_vram_bytes", BigInteger, nullable=False),
    Column("predicted_seconds", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", String),
    Column("vram_peak_bytes", BigInteger),
    Column("run_seconds", Double),
    Column("error_code", String),
    Column("error_message", Text),
    CheckConstraint(_one_of("outcome", Outcome), name="outcome"),
    CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended_has_outcome"),
)

# The visible result: exactly one a job, made by the fenced transition to succeeded.
results = Table(
    "results",
    metadata,
    _job_id(),
    Column("video_key", String, nullable=False),
    Column("thumbnail_key", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("num_frames", Integer, nullable=False),
    Column("fps", Integer, nullable=False),
    Column("duration_seconds", Double, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("payload_sha256", String, nullable=False),
    Column("job_id", String, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
)

# Which installation this database is, so that it touches no files of another.
installation = Table(
    "installation",
    metadata,
    Column("id", String, primary_key=True),
    Column("only_row", Integer, nullable=False, unique=True),
    CheckConstraint("only_row = 1", name="only_row"),
)

models = Table(
    "models",
    metadata,
    Column("id", String, primary_key=True),
    Column("architecture", String, nullable=False),
    Column("weights_bytes", BigInteger, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("seen_at", Double, nullable=False),
)

gpus = Table(
    "gpus",
    metadata,
    Column("id", String, primary_key=True),
    Column("host", String, nullable=False),
    Column("model", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("headroom_bytes", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", Text),
    Column("actor", String),
    Column("state_changed_at", Double, nullable=False),
    Column("used_bytes", BigInteger),
    Column("free_bytes", BigInteger),
    Column("utilization_percent", Double),
    Column("temperature_celsius", Double),
    Column("problem", Text),
    Column("seen_at", Double, nullable=False),
    CheckConstraint(_one_of("state", GpuState), name="state"),
    CheckConstraint("state = 'active' OR reason IS NOT NULL", name="reason"),
    CheckConstraint("(used_bytes IS NULL) = (free_bytes IS NULL)", name="memory_known_or_not"),
    CheckConstraint("total_bytes > headroom_bytes AND headroom_bytes >= 0", name="total"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String, primary_key=True),
    Column("gpu_id", String, ForeignKey("gpus.id"), nullable=False, index=True),
    Column("pid", Integer, nullable=False),
    Column("model", String, nullable=False),
    Column("resident_bytes", BigInteger, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("seen_at", Double, nullable=False),
    CheckConstraint("resident_bytes >= 0", name="resident_bytes"),
)
