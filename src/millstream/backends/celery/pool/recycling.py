"""Replacing a worker process that has run enough tasks, or has grown too big."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Any

from celery import signals
from celery.utils.log import get_logger

_logger = get_logger(__name__)
_STATM = Path("/proc/self/statm")


class Recycling:
    """Decides when the process is to be replaced, and does it at its exit.

    Args:
        max_tasks: How many tasks may begin in the process; `None` for any number.
        max_memory: KiB of memory that the process may have, checked as tasks end; `None` for any amount.
    """

    def __init__(self, max_tasks: int | None, max_memory: int | None) -> None:
        """Count from 0."""
        self._max_tasks = max_tasks
        self._max_memory = max_memory
        self._begun = 0
        self._armed = False

    def begun(self) -> str | None:
        """Count a task that begins; return why no further one may begin, if that is so."""
        self._begun += 1
        if self._max_tasks is not None and self._begun >= self._max_tasks:
            return f"{self._begun} tasks have begun (worker_max_tasks_per_child)"
        return None

    def ended(self) -> str | None:
        """Look after a task has ended; return why no further one may begin, if that is so."""
        if self._max_memory is not None and (size := resident_kib()) > self._max_memory:
            return f"it has {size} KiB of memory, more than {self._max_memory} (worker_max_memory_per_child)"
        return None

    def arm(self, why: str) -> None:
        """Let another process with the same command take this one's place when it exits, unless it is told to stop."""
        if not self._armed:
            self._armed = True
            _logger.warning("The worker process is replaced when its running tasks have ended: %s", why)
            signals.worker_shutting_down.connect(self._disarm)
            atexit.register(self._replace)

    def _disarm(self, **_: Any) -> None:
        self._armed = False

    def _replace(self) -> None:
        if self._armed:
            sys.stdout.flush()
            sys.stderr.flush()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  the command that started it


def resident_kib() -> int:
    """Return the memory that the process has now, in KiB; 0 where there is no Linux to tell."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
