"""The refusals of an alias and of an idempotency key that are taken."""

from __future__ import annotations

from millstream.ledger.base import IdempotencyConflictError
from millstream.model.job import JobRecord


def alias_conflict(name: str, job_id: str) -> IdempotencyConflictError:
    """Return the refusal of a job with an alias that another job has."""
    return IdempotencyConflictError(
        f"the task id {name!r} belongs to job {job_id}, also after that job has ended; give another one, or none, "
        f"or let the ledger forget that job first (app.purge, `millstream jobs purge`, retention_days)"
    )


def key_conflict(job: JobRecord, known: JobRecord) -> IdempotencyConflictError:
    """Return the refusal of a job whose idempotency key another one has, which was not made by the same submission."""
    whose = f"job {known.id}, with another flow or other inputs" if known.owner == job.owner else "another owner's job"
    return IdempotencyConflictError(f"the idempotency key {job.idempotency_key!r} belongs to {whose}")
