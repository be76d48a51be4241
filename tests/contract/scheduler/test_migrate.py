"""From nothing to this version's schema, however many processes want it at once."""

import multiprocessing
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import delete, select, text

from scheduler.errors import DatabaseNewer
from scheduler.store import migrate as migration
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.store.migrate import migrate
from scheduler.store.schema import metadata
from tests.support.databases import FreshDatabase


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def open_and_migrate(url: str) -> None:
    with opened(url) as database:
        migrate(database)


def tables(database: Database) -> set[str]:
    with database.read() as conn:
        return set(conn.dialect.get_table_names(conn))


@pytest.fixture
def empty(fresh_database: FreshDatabase) -> Iterator[str]:
    """The URL of a database without a schema."""
    with fresh_database(schema=False) as url:
        yield url


def test_from_empty_and_again(empty: str) -> None:
    with opened(empty) as database:
        assert tables(database) == set()
        migrate(database)
        assert tables(database) == {*metadata.tables, "alembic_version"}
        migrate(database)
        with database.read() as conn:
            assert conn.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [migration.HEAD]


def test_by_many_threads_at_once(empty: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(open_and_migrate, empty) for _ in range(4)]:
            done.result()
    with opened(empty) as database:
        assert set(metadata.tables) < tables(database)


def test_by_many_processes_at_once(empty: str) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as processes:
        for done in [processes.submit(open_and_migrate, empty) for _ in range(4)]:
            done.result()
    with opened(empty) as database:
        assert set(metadata.tables) < tables(database)


def test_the_head_is_the_last_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(migration._SCRIPTS))

    assert ScriptDirectory.from_config(config).get_heads() == [migration.HEAD]


def test_a_newer_database_is_refused_in_one_line(fresh_database: FreshDatabase) -> None:
    with fresh_database() as url, opened(url) as database:
        with database.write() as conn:
            conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))

        with pytest.raises(DatabaseNewer, match="schema 9999, newer than this version") as refused:
            migrate(database)

    assert "\n" not in str(refused.value)


def test_a_migration_that_fails_leaves_nothing(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = shutil.copytree(migration._SCRIPTS, tmp_path / "migrations")
    (initial,) = (scripts / "versions").glob("0001*.py")
    initial.write_text(initial.read_text() + '    op.execute("SELECT no_such_function()")\n')
    with opened(empty) as database:
        with monkeypatch.context() as patch:
            patch.setattr(migration, "_SCRIPTS", scripts)
            with pytest.raises(Exception, match="no_such_function"):
                migrate(database)
        assert tables(database) == set()

        migrate(database)
        assert set(metadata.tables) < tables(database)


def test_the_schema_is_the_sum_of_its_migrations(engine: str, fresh_database: FreshDatabase) -> None:
    """Once as alembic compares, and once word for word, for the CHECK constraints that alembic does not see."""
    with (
        fresh_database() as by_migrations,
        fresh_database(schema=False) as by_metadata,
        opened(by_migrations) as migrated,
        opened(by_metadata) as created,
    ):
        with created.write() as conn:
            metadata.create_all(conn)
        with migrated.read() as conn:
            assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        read = _sqlite_schema if engine == "sqlite" else _postgres_schema
        assert read(migrated) == read(created)


def _sqlite_schema(database: Database) -> dict[str, list[str]]:
    query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'")
    with database.read() as conn:
        return {name: _clauses(sql) for name, sql in conn.execute(query)}


def _clauses(sql: str) -> list[str]:
    """Return a statement's clauses in an order that does not matter: constraints may come in any.

    A clause is a line, or a column that was added later and stands behind the last one.
    """
    lines = re.sub(r", (?=\w+ (?:DOUBLE|VARCHAR|TEXT|JSON|BIGINT)\b)", "\n", sql).splitlines()
    return sorted(re.sub(r"\s+", " ", line).strip(" ,") for line in lines)


def _postgres_schema(database: Database) -> list[tuple[str, ...]]:
    columns = text(
        "SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, '')"
        " FROM information_schema.columns WHERE table_schema = 'public'"
    )
    constraints = text(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
    )
    indexes = text("SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    with database.read() as conn:
        rows = [tuple(row) for query in (columns, constraints, indexes) for row in conn.execute(query)]
    return sorted(row for row in rows if row[0] != "alembic_version")


def upgrade_to(database: Database, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migration._SCRIPTS))
    with database.write() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, revision)


def insert(database: Database, statements: str) -> None:
    with database.write() as conn:
        for statement in filter(str.strip, statements.split(";\n")):
            conn.execute(text(statement.replace(":", r"\:")))


_FIRST_VERSION = """
INSERT INTO gpus (id, host, model, kind, name, plan, total_bytes, headroom_bytes, state, reason, state_changed_at,
                  seen_at)
VALUES ('GPU-0', 'h', 'm', 'k', 'n', 'fp16', 100, 1, 'active', NULL, 1, 9),
       ('GPU-1', 'h', 'm', 'k', 'n', 'fp16', 100, 1, 'drained', 'fan', 4, 9);
INSERT INTO workers (id, gpu_id, pid, model, resident_bytes, ready, seen_at) VALUES ('w', 'GPU-0', 1, 'm', 5, true, 9);
INSERT INTO jobs (id, tenant, model, prompt, params, metadata, image_key, max_attempts, created_at)
VALUES ('job_1', 't', 'm', 'p', '{"width": 512, "height": 320, "num_frames": 16, "num_inference_steps": 50,
        "guidance_scale": 9.0, "target_fps": 8, "seed": 1}', '{}', 'k', 3, 10),
       ('job_2', 't', 'm', 'p', '{"width": 512, "height": 320, "num_frames": 16, "num_inference_steps": 20,
        "guidance_scale": 1, "target_fps": 8, "seed": 1}', '{}', 'k', 3, 11);
INSERT INTO job_states (job_id, status, model, priority, plan, est_model_bytes, est_working_bytes, est_seconds, weight,
                        rank, memory_class, not_before, lease, attempts, version, started_at)
VALUES ('job_1', 'running', 'm', 1, 'fp16', 5, 6, 40, 2, -1, 3, 0, 1, 1, 2, 12),
       ('job_2', 'queued', 'm', 1, 'fp16', 5, 6, 40, 2, -1, 3, 30, 1, 1, 3, 12);
INSERT INTO leases (job_id, lease, gpu_id, worker_id, reserved_bytes, expires_at, stage, step, steps, fraction, reports)
VALUES ('job_1', 1, 'GPU-0', 'w', 6, 22, 'denoising', 7, 50, 0.1, 4);
INSERT INTO attempts (job_id, lease, number, gpu_id, worker_id, plan, predicted_vram_bytes, predicted_seconds,
                      started_at)
VALUES ('job_1', 1, 1, 'GPU-0', 'w', 'fp16', 11, 40, 12);
"""


def test_the_queue_of_the_first_version_goes_on(empty: str) -> None:
    """A running job keeps its lease, a waiting one its place and its backoff, a drained GPU its drain."""
    with opened(empty) as database:
        upgrade_to(database, "0001")
        insert(database, _FIRST_VERSION)

        migrate(database)

        with database.read() as conn:
            states = conn.execute(select(s.job_states).order_by(s.job_states.c.job_id)).all()
            lease = conn.execute(select(s.leases)).one()
            drain = conn.execute(select(s.drains)).one()
            worker = conn.execute(select(s.workers)).one()
            attempt = conn.execute(select(s.attempts)).one()
            plans = conn.execute(select(s.gpus.c.plans).order_by(s.gpus.c.id)).scalars().all()
    assert (attempt.model, attempt.shape, attempt.gpu_kind) == ("m", "512x320x16", "k")
    assert plans == [["fp16"], ["fp16"]]
    assert [(row.plan, row.plan_reason, row.shape, row.notices) for row in states] == [
        ("fp16", "", "512x320x16", []),
        ("fp16", "", "512x320x16,unguided", []),
    ]
    assert [(row.status, row.virtual_at, row.ready_at, row.steps, row.not_before) for row in states] == [
        ("running", 10, 10, 50, 0),
        ("queued", 11, 11, 20, 30),
    ]
    assert (lease.lease, lease.lane, lease.step, lease.started_at, lease.predicted_seconds) == (1, 0, 7, 12, 40)
    assert (drain.gpu_id, drain.mode, drain.asked_at, drain.deadline_at) == ("GPU-1", "finish", 4, None)
    assert (worker.can_load, worker.condemned) == ([], None)


_FOURTH_VERSION = """
INSERT INTO gpus (id, host, model, kind, name, plans, total_bytes, headroom_bytes, state, state_changed_at, used_bytes,
                  free_bytes, seen_at)
VALUES ('GPU-0', 'h', 'm', 'k', 'n', '["fp16"]', 100, 1, 'active', 1, 40, 60, 9);
INSERT INTO jobs (id, tenant, model, prompt, params, metadata, image_key, max_attempts, created_at)
VALUES ('job_1', 'acme', 'm', 'p', '{}', '{}', 'k', 3, 10), ('job_2', 'default', 'm', 'p', '{}', '{}', 'k', 3, 11);
INSERT INTO attempts (job_id, lease, number, gpu_id, worker_id, model, plan, shape, gpu_kind, predicted_vram_bytes,
                      predicted_seconds, started_at, ended_at, outcome, run_seconds, stage_seconds, error_code,
                      error_message)
VALUES ('job_1', 1, 1, 'GPU-0', 'w', 'm', 'fp16', 's', 'k', 11, 40, 12, 20, 'retried', NULL, NULL, 'x', 'it broke'),
       ('job_1', 2, 2, 'GPU-0', 'w', 'm', 'fp16', 's', 'k', 11, 40, 21, 61, 'succeeded', 39.5, '{"denoising": 30.5}',
        NULL, NULL),
       ('job_2', 1, 1, 'GPU-0', 'w', 'm', 'fp16', 's', 'k', 11, 40, 62, NULL, NULL, NULL, NULL, NULL, NULL);
"""


def test_attempts_learn_whose_they_were_and_stay_without_their_job(empty: str) -> None:
    with opened(empty) as database:
        upgrade_to(database, "0004")
        insert(database, _FOURTH_VERSION)

        migrate(database)

        order = select(s.attempts).order_by(s.attempts.c.job_id, s.attempts.c.lease)
        with database.read() as conn:
            before = conn.execute(order).all()
            gpu = conn.execute(select(s.gpus)).one()
        with database.write() as conn:
            conn.execute(delete(s.jobs))
        with database.read() as conn:
            assert conn.execute(order).all() == before
    assert [(row.job_id, row.lease, row.tenant, row.outcome, row.ended_at) for row in before] == [
        ("job_1", 1, "acme", "retried", 20),
        ("job_1", 2, "acme", "succeeded", 61),
        ("job_2", 1, "default", None, None),
    ]
    assert (before[0].error_message, before[1].run_seconds, before[1].stage_seconds) == (
        "it broke",
        39.5,
        {"denoising": 30.5},
    )
    assert (gpu.used_bytes, gpu.foreign_bytes, gpu.power_watts) == (40, None, None)
