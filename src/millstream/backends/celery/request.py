"""Celery's request of a message that wakes a worker. It is about a job, and Celery must not take it for the job."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

from millstream.log import get_logger

_log = get_logger("millstream.backends.celery")


class WakeRequest(Request):  # type: ignore[misc]
    """The request of a message that was checked."""

    def revoked(self) -> bool:
        """Whether it was revoked: never. Its id is the job's, and a job that nobody is woken for would lie there."""
        return False

    def terminate(self, _pool: Any, signal: Any = None) -> None:
        """Kill nothing: a process that was woken for one job may be executing others."""
        _log.warning("a job is not terminated by Celery; use `millstream jobs cancel`", job=self.id, signal=signal)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  Celery's own name
        """Send an event; the one that the message was served does not speak for the job."""
        if type == "task-succeeded":
            job, _, _ = self.id.partition(":")
            fields["result"] = f"a worker was woken; see millstream jobs show {job}"
        super().send_event(type, **fields)
