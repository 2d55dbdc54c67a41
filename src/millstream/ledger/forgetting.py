"""Forgetting jobs that have ended, with all that is kept of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from millstream import points
from millstream.ledger import blobs, schema
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import J, Queries
from millstream.ledger.rows import is_own

U = schema.blob_use.c

AT_ONCE = 500
"""Jobs that are forgotten in one transaction at most, so that none is long."""

_EVENTS = 20_000
"""Events that are, unless a single job has more: other processes write nothing meanwhile."""

_OF_JOBS = (
    schema.event.c.job,
    schema.claim.c.job,
    schema.segment.c.job,
    schema.blob_use.c.job,
    schema.alias.c.job,
    schema.activity.c.job,
    schema.job.c.id,
)


class Forgetting:
    """Forgets jobs, and removes the large values that only they had.

    Args:
        queries: What is asked.
        blobs: Where large values are.
    """

    def __init__(self, queries: Queries, blobs: Blobs) -> None:
        """Take the parts."""
        self._queries = queries
        self._blobs = blobs

    def trim(self, connection: Connection, before: float, now: float) -> list[str]:
        """Forget jobs that ended before a time, the oldest first, and return their ids."""
        old = sa.select(J.id).where(J.ended_at < before).order_by(J.ended_at).limit(AT_ONCE)
        return self.forget(connection, sorted(connection.raw.execute(old).scalars()), now)

    def forget(self, connection: Connection, job_ids: Sequence[str], now: float) -> list[str]:
        """Forget those of these jobs that have ended, and return their ids."""
        forgotten: list[str] = []
        for some in self._portions(connection, job_ids):
            with transaction(connection):
                if not self._queries.is_sqlite:
                    self._queries.among(connection, "locked", some)
                ended = connection.raw.execute(sa.select(J.id).where(J.id.in_(some), J.ended_at.is_not(None)))
                gone = sorted(ended.scalars())
                used = sa.select(U.digest).where(U.job.in_(gone)).distinct()
                digests = sorted(connection.raw.execute(used).scalars())
                graphs = sa.select(J.graph).where(J.id.in_(gone), is_own(J.graph))
                connection.raw.execute(sa.delete(schema.graph).where(schema.graph.c.digest.in_(graphs)))
                for column in _OF_JOBS:
                    connection.raw.execute(sa.delete(column.table).where(column.in_(gone)))
                for first in range(0, len(digests), blobs.AT_ONCE):
                    self._blobs.mark(connection.raw, digests[first : first + blobs.AT_ONCE], now)
                points.reach("retention")
            forgotten += gone
        return forgotten

    def _portions(self, connection: Connection, job_ids: Sequence[str]) -> Iterator[list[str]]:
        """Return jobs in as many portions as it takes for none to have many events, unless a single job has them."""
        for start in range(0, len(job_ids), AT_ONCE):
            portion: list[str] = []
            events = 0
            for job_id, head in self._queries.among(connection, "heads", job_ids[start : start + AT_ONCE]):
                if portion and events + head > _EVENTS:
                    yield sorted(portion)
                    portion, events = [], 0
                portion.append(job_id)
                events += head
            if portion:
                yield sorted(portion)

    def sweep(self, connection: Connection, now: float) -> int:
        """Remove large values that nobody has used for a day, a bounded number, and return how many."""
        before = now - blobs.KEPT_SECONDS
        due = sa.select(schema.blob.c.digest).where(schema.blob.c.marked_at < before).limit(1)
        if connection.raw.execute(due).first() is None:
            return 0
        with transaction(connection):
            return self._blobs.sweep(connection.raw, before)
