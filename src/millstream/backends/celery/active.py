"""What `inspect active` tells of a worker whose jobs run beside Celery's requests, and not in them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from celery.worker import control

from millstream.backends.celery.messages import TASK, message_id
from millstream.execution.journal import LogJournal
from millstream.ledger.base import Claim

_of_celery = control.active


class ActiveJournal(LogJournal):
    """Remembers what runs, beside writing the log."""

    def __init__(self) -> None:
        """Know of nothing."""
        self._running: dict[tuple[str, int], tuple[Claim, float]] = {}

    def began(self, claim: Claim) -> None:
        """Remember a segment."""
        self._running[claim.job.id, claim.segment] = claim, time.time()

    def left(self, claim: Claim) -> None:
        """Forget a segment."""
        self._running.pop((claim.job.id, claim.segment), None)

    def active(self, hostname: str) -> list[dict[str, Any]]:
        """Return what runs, each as Celery tells of a request; from any thread."""
        return [
            {
                "id": message_id(claim.job.id, claim.segment),
                "name": claim.job.flow,
                "args": [],
                "kwargs": {"job": claim.job.id, "segment": claim.segment},
                "type": TASK,
                "hostname": hostname,
                "time_start": since,
                "acknowledged": True,
                "delivery_info": {"routing_key": claim.queue, "priority": claim.job.priority, "redelivered": False},
                "worker_pid": os.getpid(),
            }
            for claim, since in self._running.copy().values()
        ]


def tell_active(jobs: Callable[[str], list[dict[str, Any]]]) -> None:
    """Let `inspect active` tell of jobs in place of the messages that woke the worker.

    Args:
        jobs: Returns them, for the worker's name.
    """

    @control.inspect_command(name="active", alias="dump_active")  # type: ignore[untyped-decorator]
    def active(state: Any, **options: Any) -> list[dict[str, Any]]:
        """List of tasks currently being executed."""
        others = [request for request in _of_celery(state, **options) if request["type"] != TASK]
        return [*others, *jobs(state.hostname)]
