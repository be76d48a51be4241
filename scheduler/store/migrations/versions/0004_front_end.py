"""The front end: tenants with limits, keys, rates, webhooks, deadlines, and results that expire."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# What a new column holds for a job from before.
_FILLED = {"tenant": "(SELECT j.tenant FROM jobs j WHERE j.id = old.job_id)", "gate": "''"}
_ADDED: dict[str, dict[str, sa.types.TypeEngine[Any]]] = {
    "jobs": {
        "retry_of": sa.String(),
        "webhook_url": sa.Text(),
        "webhook_events": sa.JSON(),
        "result_ttl_seconds": sa.Double(),
    },
    "results": {"expires_at": sa.Double(), "expired_at": sa.Double()},
}


def upgrade() -> None:
    """Make the jobs' states anew around their rows, and the tables that only get columns; then add the new ones."""
    op.execute("CREATE TABLE old_job_states AS SELECT * FROM job_states")
    op.drop_table("job_states")
    _create_job_states()
    _refill()
    for table, columns in _ADDED.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))
    _create_indexes()
    op.drop_table("tenants")  # nothing could fill it before
    _create_tenants()
    _create_api_keys()
    _create_rate_buckets()
    _create_webhooks()


def _refill() -> None:
    look = sa.inspect(op.get_bind())
    kept = [column["name"] for column in look.get_columns("old_job_states")]
    names, values = ", ".join([*kept, *_FILLED]), ", ".join([*(f"old.{name}" for name in kept), *_FILLED.values()])
    op.execute(f"INSERT INTO job_states ({names}) SELECT {values} FROM old_job_states AS old")  # noqa: S608  names
    op.drop_table("old_job_states")


def _create_job_states() -> None:
    op.create_table(
        "job_states",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
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
        sa.Column("deadline_at", sa.Double(), nullable=True),
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
        ["model", "plan", "gate", "memory_class", sa.literal_column("rank DESC"), "job_id", "est_seconds"],
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
    op.create_index("ix_job_states_tenant", "job_states", ["tenant", "status", "job_id"], unique=False)
    op.create_index(
        "ix_job_states_due",
        "job_states",
        ["deadline_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL AND deadline_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NULL AND deadline_at IS NOT NULL"),
    )


def _create_indexes() -> None:
    op.create_index("ix_jobs_tenant", "jobs", ["tenant", "id"], unique=False)
    op.create_index(
        "ix_results_expiring",
        "results",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("expired_at IS NULL AND expires_at IS NOT NULL"),
        postgresql_where=sa.text("expired_at IS NULL AND expires_at IS NOT NULL"),
    )


def _create_tenants() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("virtual_at", sa.Double(), nullable=False),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("max_priority", sa.Double(), nullable=True),
        sa.Column("submits_per_minute", sa.Integer(), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("webhook_secrets", sa.JSON(), nullable=True),
        sa.CheckConstraint("share > 0", name=op.f("ck_tenants_share")),
        sa.CheckConstraint("max_queued >= 0 AND max_running >= 0 AND max_priority > 0", name=op.f("ck_tenants_limits")),
        sa.CheckConstraint("submits_per_minute > 0 AND requests_per_minute > 0", name=op.f("ck_tenants_rates")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256"),
    )


def _create_rate_buckets() -> None:
    op.create_table(
        "rate_buckets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("arrival_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rate_buckets")),
        sqlite_with_rowid=False,
    )


def _create_webhooks() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("failing_since", sa.Double(), nullable=True),
        sa.Column("disabled_at", sa.Double(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)", name=op.f("ck_webhook_endpoints_disabled_has_reason")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index("ix_webhook_endpoints_url", "webhook_endpoints", ["tenant", "url"], unique=True)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("delivered_at", sa.Double(), nullable=True),
        sa.Column("given_up_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "next_at IS NULL OR (delivered_at IS NULL AND given_up_at IS NULL)",
            name=op.f("ck_webhook_deliveries_over_or_not"),
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_deliveries_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_next",
        "webhook_deliveries",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index("ix_webhook_deliveries_event", "webhook_deliveries", ["endpoint_id", "position"], unique=True)
    op.create_index("ix_webhook_deliveries_tenant", "webhook_deliveries", ["tenant", "id"], unique=False)
    op.create_index("ix_webhook_deliveries_job", "webhook_deliveries", ["job_id"], unique=False)
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["webhook_deliveries.id"],
            name=op.f("fk_webhook_attempts_delivery_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_webhook_attempts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "webhook_cursor",
        sa.Column("only_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_webhook_cursor_only_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_webhook_cursor")),
    )
