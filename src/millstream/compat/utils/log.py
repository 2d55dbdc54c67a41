"""Loggers for tasks, as `celery.utils.log` has them: they are those of the standard library."""

from __future__ import annotations

import logging
from typing import Final

from millstream.compat._state import performing

__all__ = ["base_logger", "get_logger", "get_task_logger", "task_logger"]

base_logger: Final = logging.getLogger("celery")
task_logger: Final = logging.getLogger("celery.task")


class _NamesTask(logging.Filter):
    """Puts `task_name` and `task_id` of the task that runs into each record, for formats that show them."""

    def filter(self, record: logging.LogRecord) -> bool:
        task = performing.get()
        record.task_name = task.name if task is not None else "???"
        record.task_id = (task.request.id if task is not None else None) or "???"
        return True


def get_logger(name: str) -> logging.Logger:
    """Return a logger."""
    return logging.getLogger(name)


def get_task_logger(name: str) -> logging.Logger:
    """Return a logger for the tasks of a module; its records have `task_name` and `task_id`."""
    logger = logging.getLogger(name)
    if logger.parent is logging.root:
        logger.parent = task_logger
    if not any(isinstance(known, _NamesTask) for known in logger.filters):
        logger.addFilter(_NamesTask())
    return logger
