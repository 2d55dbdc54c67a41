"""The refusal of an alias that is taken."""

from __future__ import annotations

from millstream.ledger.base import IdempotencyConflictError


def alias_conflict(name: str, job_id: str) -> IdempotencyConflictError:
    """Return the refusal of a job with an alias that another job has."""
    return IdempotencyConflictError(
        f"the task id {name!r} belongs to job {job_id}, also after that job has ended; give another one, or none, "
        f"or let the ledger forget that job first (app.purge, `millstream jobs purge`, retention_days)"
    )
