"""Forgetting jobs that have ended, with all that is kept of them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from millstream import points
from millstream.ledger import schema
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import J, Queries

AT_ONCE = 500
"""Jobs that are forgotten in one transaction at most, so that none is long."""

_OF_JOBS = (
    schema.event.c.job,
    schema.claim.c.job,
    schema.segment.c.job,
    schema.blob_use.c.job,
    schema.job.c.id,
)


def trim(connection: Connection, queries: Queries, before: float) -> list[str]:
    """Forget jobs that ended before a time, the oldest first, and return their ids."""
    old = sa.select(J.id).where(J.ended_at < before).order_by(J.ended_at).limit(AT_ONCE)
    return forget(connection, queries, sorted(connection.raw.execute(old).scalars()))


def forget(connection: Connection, queries: Queries, job_ids: Sequence[str]) -> list[str]:
    """Forget those of these jobs that have ended, and return their ids."""
    forgotten: list[str] = []
    for start in range(0, len(job_ids), AT_ONCE):
        some = list(job_ids[start : start + AT_ONCE])
        with transaction(connection):
            if not queries.is_sqlite:
                queries.among(connection, "locked", some)
            ended = connection.raw.execute(sa.select(J.id).where(J.id.in_(some), J.ended_at.is_not(None)))
            gone = sorted(ended.scalars())
            for column in _OF_JOBS:
                connection.raw.execute(sa.delete(column.table).where(column.in_(gone)))
            points.reach("retention")
        forgotten += gone
    return forgotten
