"""The tables. Wide rows that never change stand apart from the narrow ones that always do.

Times are seconds since 1970 by the database's clock; sizes are bytes. CHECK constraints refuse rows that no
transition could have made. In SQLite the hot tables are stored in the order of their keys (`WITHOUT ROWID`): a claim
then writes a sixth less.
"""

from enum import StrEnum
from typing import Any

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
    text,
)

from scheduler.states import CapacityAction, DrainMode, GpuState, JobStatus, OnDeadline, Outcome, Source, Stage

metadata = MetaData(
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(column_0_label)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: type[StrEnum]) -> str:
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
    Column("retry_of", String),  # the job that this one repeats
    Column("webhook_url", Text),  # who is told of its events,
    Column("webhook_events", JSON),  # and of which: a list of their types
    Column("result_ttl_seconds", Double),  # how long its video is kept, where the caller said so
    Column("traceparent", String),  # what its spans belong to, as W3C has it; NULL: it is not traced
    Column("asked_not_before", Double),  # the earliest start, where the caller named one
    CheckConstraint("max_attempts >= 1", name="max_attempts"),
)
Index("ix_jobs_tenant", jobs.c.tenant, jobs.c.id)

# Where the job stands: one row a job, moved only by the transitions.
job_states = Table(
    "job_states",
    metadata,
    _job_id(),
    Column("tenant", String, nullable=False),
    Column("gate", String, nullable=False),  # the tenant whose limit of running jobs a claim must heed, or ''
    Column("status", String, nullable=False),
    Column("model", String, nullable=False),
    Column("priority", Double, nullable=False),
    Column("plan", String, nullable=False),
    Column("plan_reason", Text, nullable=False),
    Column("shape", String, nullable=False),  # `Shape.key`: jobs of one can share a forward pass
    Column("est_model_bytes", BigInteger, nullable=False),
    Column("est_working_bytes", BigInteger, nullable=False),
    Column("est_seconds", Double, nullable=False),
    Column("weight", Double, nullable=False),
    Column("virtual_at", Double, nullable=False),  # the submit time that the rank goes by: see tenants
    Column("rank", Double, nullable=False),
    Column("memory_class", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("not_before", Double, nullable=False),  # 0: ready; otherwise no claim sees the job until it is promoted
    Column("ready_at", Double, nullable=False),  # when it became claimable, or will: what its wait counts from
    Column("lease", BigInteger, nullable=False),  # the fence: monotonic, never reset
    Column("attempts", Integer, nullable=False),
    Column("cancel_requested_at", Double),
    Column("deadline_at", Double),  # a job that has not ended by then fails
    Column("version", BigInteger, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("error_code", String),
    Column("error_message", Text),
    Column("notices", JSON, nullable=False),  # [{at, code, message}]: what the job tells beside its state
    Column("start_window", String),  # the window in which it may start; NULL: at any time
    CheckConstraint(_one_of("status", JobStatus), name="status"),
    CheckConstraint("(status IN ('queued', 'running')) = (finished_at IS NULL)", name="ended_has_time"),
    CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
    CheckConstraint("status <> 'running' OR (lease > 0 AND started_at IS NOT NULL)", name="running_has_lease"),
    CheckConstraint("lease >= attempts AND attempts >= 0", name="attempts"),
    CheckConstraint("priority > 0 AND weight > 0 AND est_seconds > 0 AND memory_class > 0", name="positive"),
    CheckConstraint("not_before >= 0", name="not_before"),
    sqlite_with_rowid=False,
)
READY = text("status = 'queued' AND not_before = 0")
_DEFERRED = text("status = 'queued' AND not_before > 0")
FOR_WINDOW = text("status = 'queued' AND start_window IS NOT NULL")
_ENDED = text("finished_at IS NOT NULL")
_DUE = text("finished_at IS NULL AND deadline_at IS NOT NULL")
# What a claim seeks: the head of each memory class, gate by gate; for backfill, the first of each that end in time.
Index(
    "ix_job_states_claim",
    job_states.c.model,
    job_states.c.plan,
    job_states.c.gate,
    job_states.c.memory_class,
    job_states.c.rank.desc(),
    job_states.c.job_id,
    job_states.c.est_seconds,
    sqlite_where=READY,
    postgresql_where=READY,
)
# The waiting line of a model, in order, with all that a look at it needs.
Index(
    "ix_job_states_line",
    job_states.c.model,
    job_states.c.plan,
    job_states.c.rank.desc(),
    job_states.c.job_id,
    job_states.c.est_seconds,
    sqlite_where=READY,
    postgresql_where=READY,
)
Index(
    "ix_job_states_deferred",
    job_states.c.status,  # or SQLite would think the index of the next but two the better
    job_states.c.not_before,
    job_states.c.rank.desc(),  # of those that come due together the best goes first
    sqlite_where=_DEFERRED,
    postgresql_where=_DEFERRED,
)
Index(
    "ix_job_states_window",
    job_states.c.status,
    job_states.c.not_before,
    sqlite_where=FOR_WINDOW,
    postgresql_where=FOR_WINDOW,
)
Index("ix_job_states_ended", job_states.c.finished_at, sqlite_where=_ENDED, postgresql_where=_ENDED)
Index("ix_job_states_status", job_states.c.status, job_states.c.job_id)
Index("ix_job_states_tenant", job_states.c.tenant, job_states.c.status, job_states.c.job_id)
Index("ix_job_states_due", job_states.c.deadline_at, sqlite_where=_DUE, postgresql_where=_DUE)

# The open leases: at most one a job, by the primary key. Heartbeats and progress touch only this table.
leases = Table(
    "leases",
    metadata,
    _job_id(),
    Column("lease", BigInteger, nullable=False),
    Column("gpu_id", String, ForeignKey("gpus.id"), nullable=False, index=True),
    Column("worker_id", String, nullable=False),
    Column("lane", Integer, nullable=False),  # of one worker, those in one lane run one after another
    Column("reserved_bytes", BigInteger, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("predicted_seconds", Double, nullable=False),
    Column("expires_at", Double, nullable=False),  # no index: every heartbeat would have to move its entry
    Column("release_requested_at", Double),  # the worker is to give the job back at its next step
    Column("progress_at", Double, nullable=False),  # when stage, step or fraction last moved
    Column("stage", String, nullable=False),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("fraction", Double, nullable=False),
    Column("reports", BigInteger, nullable=False),
    CheckConstraint(_one_of("stage", Stage), name="stage"),
    CheckConstraint("step >= 0 AND step <= steps", name="step"),
    CheckConstraint("reserved_bytes > 0 AND lease > 0", name="positive"),
    sqlite_with_rowid=False,
)

# Where a job's next attempt would go on from: named by the fenced report that follows the file.
checkpoints = Table(
    "checkpoints",
    metadata,
    _job_id(),
    Column("lease", BigInteger, nullable=False),
    Column("key", String, nullable=False),
    Column("step", Integer, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("saved_at", Double, nullable=False),
    CheckConstraint("step > 0 AND bytes > 0 AND lease > 0", name="positive"),
    sqlite_with_rowid=False,
)

# The ledger of GPU time: every attempt, predicted beside measured. It outlives its job, whose GPU time was paid for.
attempts = Table(
    "attempts",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("lease", BigInteger, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("gpu_id", String, nullable=False),
    Column("worker_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("shape", String, nullable=False),
    Column("gpu_kind", String, nullable=False),
    Column("predicted_vram_bytes", BigInteger, nullable=False),
    Column("predicted_seconds", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", String),
    Column("vram_peak_bytes", BigInteger),
    Column("run_seconds", Double),
    Column("resumed_from_step", Integer),
    Column("working_peak_bytes", BigInteger),
    Column("steps", Integer),  # that this attempt ran
    Column("step_seconds", Double),
    Column("fixed_seconds", Double),
    Column("sharing", Integer),  # the most jobs in one forward pass with it
    Column("energy_joules", Double),
    Column("stage_seconds", JSON),
    Column("error_code", String),
    Column("error_message", Text),
    CheckConstraint(_one_of("outcome", Outcome), name="outcome"),
    CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended_has_outcome"),
    sqlite_with_rowid=False,
)
_SUCCEEDED = text("outcome = 'succeeded'")
Index(
    "ix_attempts_succeeded",
    attempts.c.model,
    attempts.c.plan,
    attempts.c.ended_at.desc(),
    sqlite_where=_SUCCEEDED,
    postgresql_where=_SUCCEEDED,
)

# With all that a timeline asks of a hundred thousand of them.
Index("ix_attempts_ended", *(attempts.c[name] for name in ("ended_at", "started_at", "gpu_id", "outcome")))

# The visible result: exactly one a job, made by the fenced transition to succeeded.
results = Table(
    "results",
    metadata,
    _job_id(),
    Column("video_key", String, nullable=False),
    Column("thumbnail_key", String, nullable=False),
    Column("preview_key", String),  # a small animated WebP
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("num_frames", Integer, nullable=False),
    Column("fps", Integer, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("expires_at", Double),  # when its files go; NULL: with the job
    Column("expired_at", Double),  # when they went
)
_KEPT = text("expired_at IS NULL AND expires_at IS NOT NULL")
Index("ix_results_expiring", results.c.expires_at, sqlite_where=_KEPT, postgresql_where=_KEPT)

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
    Column("held_at", Double),  # its jobs wait until it is released
    Column("held_reason", Text),
    CheckConstraint("(held_at IS NULL) = (held_reason IS NULL)", name="held_has_reason"),
)

# What runs have needed, measured by calibration or by attempts: what footprints are predicted from.
observations = Table(
    "observations",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Double, nullable=False),
    Column("source", String, nullable=False),
    Column("gpu_kind", String, nullable=False),
    Column("model", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("shape", String, nullable=False),
    Column("working_peak_bytes", BigInteger),  # an attempt that ran out of memory needed more than this
    Column("step_seconds", Double),
    Column("fixed_seconds", Double),
    CheckConstraint(_one_of("source", Source), name="source"),
    CheckConstraint(
        "working_peak_bytes IS NOT NULL OR (step_seconds IS NOT NULL AND fixed_seconds IS NOT NULL)", name="something"
    ),
)
Index("ix_observations_shape", *(observations.c[name] for name in ("gpu_kind", "model", "plan", "shape", "id")))

gpus = Table(
    "gpus",
    metadata,
    Column("id", String, primary_key=True),
    Column("host", String, nullable=False),
    Column("model", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("plans", JSON, nullable=False),  # what its workers run, the fastest first
    Column("total_bytes", BigInteger, nullable=False),
    Column("headroom_bytes", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", Text),
    Column("actor", String),
    Column("state_changed_at", Double, nullable=False),
    Column("used_bytes", BigInteger),
    Column("free_bytes", BigInteger),
    Column("foreign_bytes", BigInteger),  # of those used, what others than our processes hold
    Column("utilization_percent", Double),
    Column("temperature_celsius", Double),
    Column("power_watts", Double),
    Column("problem", Text),
    Column("seen_at", Double, nullable=False),
    CheckConstraint(_one_of("state", GpuState), name="state"),
    CheckConstraint("state = 'active' OR reason IS NOT NULL", name="reason"),
    CheckConstraint("(used_bytes IS NULL) = (free_bytes IS NULL)", name="memory_known_or_not"),
    CheckConstraint("total_bytes > headroom_bytes AND headroom_bytes >= 0", name="total"),
)

# What a sample of a GPU measures.
GAUGES = (
    "used_bytes",
    "foreign_bytes",
    "reserved_bytes",
    "utilization_percent",
    "power_watts",
    "temperature_celsius",
)


def _gauge(name: str) -> list[Column[Any]]:
    return [
        Column(f"{name}_sum", Double, nullable=False),  # also of bytes: a year's are beyond 64 bits
        Column(f"{name}_count", Integer, nullable=False),  # samples in which it was known
        Column(f"{name}_max", Double),
    ]


# The samples of each GPU, summed up in buckets of time of several steps (`scheduler.samples`). No foreign key: what a
# GPU did is history, also when the fleet has forgotten it.
gpu_samples = Table(
    "gpu_samples",
    metadata,
    Column("gpu_id", String, primary_key=True),
    Column("step_seconds", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),  # when the bucket begins
    Column("samples", Integer, nullable=False),
    Column("hot_samples", Integer, nullable=False),  # with a high utilisation
    Column("seconds", Double, nullable=False),  # that the samples stand for: each for the time before it
    Column("busy_seconds", Double, nullable=False),  # of these, with an open lease
    *(column for name in GAUGES for column in _gauge(name)),
    CheckConstraint("at % step_seconds = 0", name="at"),
    CheckConstraint("samples > 0 AND hot_samples <= utilization_percent_count", name="counted"),
    CheckConstraint("busy_seconds >= 0 AND busy_seconds <= seconds", name="busy_seconds"),
    sqlite_with_rowid=False,
)

workers = Table(
    "workers",
    metadata,
    Column("id", String, primary_key=True),
    Column("gpu_id", String, ForeignKey("gpus.id"), nullable=False, index=True),
    Column("pid", Integer, nullable=False),
    Column("model", String, nullable=False),
    Column("resident_bytes", BigInteger, nullable=False),
    Column("can_load", JSON, nullable=False),  # ids of further models that it would load for a job
    Column("plan", String),  # whose weights it holds now; NULL: none
    Column("ready", Boolean, nullable=False),
    Column("condemned", Text),  # why its supervisor is to replace it
    Column("seen_at", Double, nullable=False),
    CheckConstraint("resident_bytes >= 0", name="resident_bytes"),
)

# How a GPU is being emptied: a row from the drain to the resume.
drains = Table(
    "drains",
    metadata,
    Column("gpu_id", String, ForeignKey("gpus.id", ondelete="CASCADE"), primary_key=True),
    Column("mode", String, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("deadline_at", Double),
    Column("on_deadline", String, nullable=False),
    Column("resume_at", Double),
    Column("stopped_at", Double),  # when the stop of its host was asked for: active again once it comes back
    CheckConstraint(_one_of("mode", DrainMode), name="mode"),
    CheckConstraint(_one_of("on_deadline", OnDeadline), name="on_deadline"),
)

# A GPU kept for a job that has waited too long: at most one a GPU and one a job.
reservations = Table(
    "reservations",
    metadata,
    Column("gpu_id", String, ForeignKey("gpus.id", ondelete="CASCADE"), primary_key=True),
    Column("job_id", String, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("reserved_bytes", BigInteger, nullable=False),
    Column("start_at", Double, nullable=False),
    Column("made_at", Double, nullable=False),
    CheckConstraint("reserved_bytes > 0", name="reserved_bytes"),
)

# What a tenant may do: NULL is no limit of its own. Fair share: its virtual clock is moved by what it submits; no share
# means no clock.
tenants = Table(
    "tenants",
    metadata,
    Column("id", String, primary_key=True),
    Column("share", Double),
    Column("virtual_at", Double, nullable=False),
    Column("max_queued", Integer),
    Column("max_running", Integer),
    Column("max_priority", Double),
    Column("submits_per_minute", Integer),
    Column("requests_per_minute", Integer),
    Column("webhook_secrets", JSON),  # [{secret, until}]: the newest first; `until` is null for the one in force
    CheckConstraint("share > 0", name="share"),
    CheckConstraint("max_queued >= 0 AND max_running >= 0 AND max_priority > 0", name="limits"),
    CheckConstraint("submits_per_minute > 0 AND requests_per_minute > 0", name="rates"),
)

# Who may call: of each key its SHA-256 only. Rows are never deleted: with the first one the service stops being open.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("used_at", Double),  # to the minute
)

# Browsers that have signed in with a key: of each one's token its SHA-256 only.
sessions = Table(
    "sessions",
    metadata,
    Column("sha256", String, primary_key=True),
    Column("key_id", String, ForeignKey("api_keys.id"), nullable=False),
    Column("expires_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_sessions_expiring", sessions.c.expires_at)
Index("ix_sessions_key", sessions.c.key_id, sessions.c.expires_at)

# Rate limits: the theoretical arrival time of each bucket's next request (GCRA), which all front ends move on.
rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("id", String, primary_key=True),
    Column("arrival_at", Double, nullable=False),
    sqlite_with_rowid=False,
)

# Webhooks. An endpoint is a URL of a tenant, made when a job first names it.
webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("url", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("failing_since", Double),  # no delivery has succeeded since
    Column("disabled_at", Double),
    Column("disabled_reason", Text),
    CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_has_reason"),
)
Index("ix_webhook_endpoints_url", webhook_endpoints.c.tenant, webhook_endpoints.c.url, unique=True)

# The outbox: what is to be told to whom. Made from the log of events, each event once for each endpoint.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("endpoint_id", String, ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("tenant", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("payload", Text, nullable=False),  # the very bytes that are sent and signed
    Column("position", BigInteger, nullable=False),  # of the event it tells of
    Column("created_at", Double, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Double),  # when to try again; NULL: delivered, or given up
    Column("delivered_at", Double),
    Column("given_up_at", Double),
    CheckConstraint("next_at IS NULL OR (delivered_at IS NULL AND given_up_at IS NULL)", name="over_or_not"),
)
_TO_SEND = text("next_at IS NOT NULL")
Index("ix_webhook_deliveries_next", webhook_deliveries.c.next_at, sqlite_where=_TO_SEND, postgresql_where=_TO_SEND)
Index("ix_webhook_deliveries_event", webhook_deliveries.c.endpoint_id, webhook_deliveries.c.position, unique=True)
Index("ix_webhook_deliveries_tenant", webhook_deliveries.c.tenant, webhook_deliveries.c.id)
Index("ix_webhook_deliveries_job", webhook_deliveries.c.job_id)

# Each try at a delivery, and what came of it.
webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", String, ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("status", Integer),  # of the answer; NULL: there was none
    Column("error", Text),
    sqlite_with_rowid=False,
)

# How far the outbox has read the log of events: one row, or none before the first.
webhook_cursor = Table(
    "webhook_cursor",
    metadata,
    Column("only_row", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    CheckConstraint("only_row = 1", name="only_row"),
)

# What operators are told of (`scheduler.alarm`). One that has not fired yet is a condition that may pass.
alerts = Table(
    "alerts",
    metadata,
    Column("id", String, primary_key=True),
    Column("rule", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("since", Double, nullable=False),  # when its condition came
    Column("seen_at", Double, nullable=False),  # when it was last there
    Column("fired_at", Double),
    Column("resolved_at", Double),
    CheckConstraint("resolved_at IS NULL OR fired_at IS NOT NULL", name="resolved_has_fired"),
)
_UNRESOLVED = text("resolved_at IS NULL")
_ALERT_KEY = (alerts.c.rule, alerts.c.subject)
Index("ix_alerts_open", *_ALERT_KEY, unique=True, sqlite_where=_UNRESOLVED, postgresql_where=_UNRESOLVED)
Index("ix_alerts_resolved", alerts.c.resolved_at)

# When somebody is to look for alerts again: one row, or none before the first look.
alert_turn = Table(
    "alert_turn",
    metadata,
    Column("only_row", Integer, primary_key=True, autoincrement=False),
    Column("next_at", Double, nullable=False),
    CheckConstraint("only_row = 1", name="only_row"),
)

# Submits that were refused because no GPU could ever hold the job (`scheduler.store.demand`); `at` begins an hour.
refused_submits = Table(
    "refused_submits",
    metadata,
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String, primary_key=True),
    Column("shape", String, primary_key=True),
    Column("submits", BigInteger, nullable=False),
    Column("needed_bytes", BigInteger, nullable=False),
    CheckConstraint("at % 3600 = 0", name="at"),
    CheckConstraint("submits > 0", name="counted"),
    sqlite_with_rowid=False,
)

# What capacity was decided last (`scheduler.provision`): one row, or none before the first decision.
capacity_state = Table(
    "capacity_state",
    metadata,
    Column("only_row", Integer, primary_key=True, autoincrement=False),
    Column("looked_at", Double, nullable=False),
    Column("since", Double, nullable=False),  # when the number wanted last changed
    Column("wanted", Integer, nullable=False),
    Column("online", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("lull_since", Double),  # since when fewer are wanted than there are,
    Column("lull_peak", Integer),  # and the most that were wanted in that time
    CheckConstraint("only_row = 1", name="only_row"),
    CheckConstraint("(lull_since IS NULL) = (lull_peak IS NULL)", name="lull"),
)

# What the hook for capacity is, or was, to be called for: made with the decision, each until it has succeeded.
capacity_calls = Table(
    "capacity_calls",
    metadata,
    Column("id", String, primary_key=True),
    Column("action", String, nullable=False),
    Column("count", Integer, nullable=False),  # GPUs
    Column("host", String),  # which is to be stopped,
    Column("gpus", JSON, nullable=False),  # and its GPUs
    Column("wanted", Integer, nullable=False),
    Column("online", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Double),  # when to try (again); NULL: it is over
    Column("error", Text),  # of the last try
    Column("done_at", Double),
    Column("dropped_at", Double),  # it was no longer wanted
    Column("arrived_at", Double),  # when as many GPUs as it was to make were first seen
    CheckConstraint(_one_of("action", CapacityAction), name="action"),
    CheckConstraint("(action = 'stop') = (host IS NOT NULL)", name="stop_has_host"),
    CheckConstraint("count > 0 AND tries >= 0", name="counts"),
    CheckConstraint("(next_at IS NULL) = (done_at IS NOT NULL OR dropped_at IS NOT NULL)", name="over_or_not"),
)
_TO_CALL = text("next_at IS NOT NULL")
Index("ix_capacity_calls_next", capacity_calls.c.next_at, sqlite_where=_TO_CALL, postgresql_where=_TO_CALL)
Index("ix_capacity_calls_asked", capacity_calls.c.asked_at)

# The whole queue's switches: one row, or none while all are as they were at first.
queue_state = Table(
    "queue_state",
    metadata,
    Column("only_row", Integer, primary_key=True, autoincrement=False),
    Column("order_signature", String, nullable=False),  # the policy that the ranks were made with
    Column("windows_signature", String),  # the windows by which jobs were put off; NULL: there were none
    Column("paused_at", Double),
    Column("pause_reason", Text),
    Column("pause_actor", String),
    CheckConstraint("only_row = 1", name="only_row"),
    CheckConstraint("(paused_at IS NULL) = (pause_reason IS NULL)", name="pause_has_reason"),
)

# What happened, in order: one row a change, written in the change's own transaction. `position` is the order readers
# go by. SQLite gives it at once; on PostgreSQL, where a later number may commit first, the next reader does.
events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("position", BigInteger, unique=True),
    Column("at", Double, nullable=False),
    Column("type", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("tenant", String),
    Column("actor", String),
    Column("data", JSON, nullable=False),
)
_UNNUMBERED = text("position IS NULL")
Index("ix_events_subject", events.c.subject, events.c.position)
Index("ix_events_unnumbered", events.c.id, sqlite_where=_UNNUMBERED, postgresql_where=_UNNUMBERED)
