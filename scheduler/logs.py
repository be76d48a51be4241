"""Logging for every process: readable lines on a terminal, JSON elsewhere."""

import logging
import sys
from contextlib import AbstractContextManager

import structlog

from scheduler.records import Lease


def configure(log_format: str, *, level: str = "INFO") -> None:
    """Send structlog and the standard library's logs to stderr; `log_format` is auto, json or console."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.captureWarnings(capture=True)  # they would be lines of their own form
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for chatty in ("alembic", "httpx", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def about(lease: Lease) -> AbstractContextManager[None]:
    """Have each line that this thread logs while the block lasts, whoever logs it, name job, attempt and lease."""
    return structlog.contextvars.bound_contextvars(job_id=lease.job_id, attempt=lease.attempt, lease=lease.fence)
