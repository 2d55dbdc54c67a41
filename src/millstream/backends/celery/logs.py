"""The log of a Celery worker: our lines in it look like Celery's, and Celery says nothing of a job that is not so."""

from __future__ import annotations

import logging

import structlog
from celery._state import get_current_task
from structlog.stdlib import BoundLogger, LoggerFactory, ProcessorFormatter, filter_by_level

from millstream.backends.celery.messages import TASK
from millstream.log import as_text


def share_celerys_log() -> None:
    """Write our log lines by Celery's handlers, where nobody else has set that up; call it when Celery has its own."""
    logging.getLogger("celery.app.trace").addFilter(_about_messages)
    if not structlog.is_configured() or _is_unreadable():
        structlog.configure(
            processors=[filter_by_level, structlog.processors.format_exc_info, as_text],
            wrapper_class=BoundLogger,
            logger_factory=LoggerFactory(),
        )


def _is_unreadable() -> bool:
    """Whether lines are given in a form that no handler writes any more: Celery has put its own in their place."""
    last = structlog.get_config()["processors"][-1]
    handlers = logging.getLogger().handlers
    return last is ProcessorFormatter.wrap_for_formatter and not any(
        isinstance(handler.formatter, ProcessorFormatter) for handler in handlers
    )


def _about_messages(record: logging.LogRecord) -> bool:
    """Say at the level DEBUG, and in other words, that a message that woke this worker was served.

    Celery takes it for a task that succeeded, whatever became of the job.
    """
    task = get_current_task()
    if record.levelno != logging.INFO or task is None or task.name != TASK:
        return True
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    record.msg = "A message about %(name)s[%(id)s] was served in %(runtime)ss"
    return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
