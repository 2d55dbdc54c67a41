"""Claiming: which segments may start now, and whose they become."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from millstream import points
from millstream.ledger import schema
from millstream.ledger.base import Claim, FencedError
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import J, Queries, S
from millstream.ledger.rows import job_record_or_shown
from millstream.ledger.statements import Rows, Statement, given

_PROMOTED = 500
SUSPECT = 2
"""From so many deaths on a segment is suspected to cause them."""

_CLAIM_COLUMNS = tuple(schema.claim.c)
_HELD = (S.state, S.attempt, S.holder)


class Claims:
    """Claims segments.

    Args:
        queries: What is asked.
        rows: How many rows are written.
        blobs: Where large inputs are.
    """

    def __init__(self, queries: Queries, rows: Rows, blobs: Blobs) -> None:
        """Take the parts."""
        self._queries = queries
        self._rows = rows
        self._blobs = blobs

    # ------------------------------------------------------------------------------------------------------ looking
    def is_any(self, connection: Connection, flows: Collection[str] | None, now: float) -> bool:
        """Return whether something may start; a read, so that whoever finds nothing has written nothing."""
        due = (S.state == "waiting") & (S.ready_at <= given("now"))
        for found in (S.state == sa.text("'queued'"), due):
            clause = sa.select(sa.literal(1)).select_from(schema.segment).where(found, *_of(flows)).limit(1)
            statement = self._queries.statement(clause)
            if connection.run(statement.sql, statement.fill(now=now)):
                return True
        return False

    def is_any_expired(self, connection: Connection, now: float) -> bool:
        """Return whether a queued job should have started by now; a read, as `is_any`."""
        joined = schema.segment.join(schema.job, J.id == S.job)
        clause = sa.select(sa.literal(1)).select_from(joined).where(S.state == sa.text("'queued'"), *_expired(now))
        statement = self._queries.statement(clause.limit(1))
        return bool(connection.run(statement.sql, statement.fill()))

    def due_at(self, connection: Connection, flows: Collection[str] | None) -> float | None:
        """Return when the next timer is over."""
        clause = (
            sa.select(S.ready_at)
            .where(S.state == sa.text("'waiting'"), S.ready_at.is_not(None), *_of(flows))
            .order_by(S.ready_at)
            .limit(1)
        )
        statement = self._queries.statement(clause)
        rows = connection.run(statement.sql, statement.fill())
        return float(rows[0][0]) if rows else None

    # ----------------------------------------------------------------------------------------------------- claiming
    def claim(
        self, connection: Connection, holder: str, limit: int, flows: Collection[str] | None, now: float
    ) -> list[Claim]:
        """Claim at most `limit` segments; see `Ledger.claim`.

        Raises:
            FencedError: The holder is no member (any more).
        """
        return self._claim(connection, holder, limit, _of(flows), now)

    def claim_expired(self, connection: Connection, holder: str, limit: int, now: float) -> list[Claim]:
        """Claim at most `limit` segments of expired jobs; see `SharedLedger.claim_expired`.

        Raises:
            FencedError: The holder is no member (any more).
        """
        return self._claim(connection, holder, limit, _expired(now), now)

    def _claim(
        self, connection: Connection, holder: str, limit: int, which: Sequence[sa.ColumnElement[bool]], now: float
    ) -> list[Claim]:
        with transaction(connection):
            if not self._queries.among(connection, "alive", [holder]):
                raise FencedError(f"{holder} is not a member of this ledger")
            self._promote(connection, now)
            found = self._candidates(connection, holder, limit, which)
            claims = self._take(connection, holder, found, now) if found else []
            points.reach("in-commit")
        return claims

    def _promote(self, connection: Connection, now: float) -> None:
        """Queue what has waited for its time; the rows are taken without waiting for anybody who has one locked."""
        connection.change(self._promotion.sql, self._promotion.fill(now=now))

    @cached_property
    def _promotion(self) -> Statement:
        due = (
            sa.select(S.job, S.id)
            .where(S.state == sa.text("'waiting'"), S.ready_at <= given("now"))
            .order_by(S.ready_at)
            .limit(_PROMOTED)
            .with_for_update(skip_locked=True)
        )
        return self._queries.statement(
            sa.update(schema.segment)
            .where(sa.tuple_(S.job, S.id).in_(due))
            .values(state=sa.text("'queued'"), ready_at=sa.null())
        )

    def _candidates(
        self, connection: Connection, holder: str, limit: int, which: Sequence[sa.ColumnElement[bool]]
    ) -> list[Sequence[Any]]:
        """Return what is to be claimed, its jobs locked: at most one suspect, and none while the holder has one."""
        found = self._ordered(connection, limit, S.crashes < SUSPECT, *which)
        if not self._holds_suspect(connection, holder):
            found += self._ordered(connection, 1, S.crashes >= sa.text(str(SUSPECT)), *which)
        if not self._queries.is_sqlite:  # what was read before the lock may have been claimed before it
            locked = {(row[0], row[1]) for row in found}
            again = self._queries.among(connection, "queued", sorted({job for job, _ in locked}))
            found = [row for row in again if (row[0], row[1]) in locked]
        return sorted(found, key=lambda row: (-row[5], row[0], row[1]))[:limit]

    def _ordered(self, connection: Connection, limit: int, *which: sa.ColumnElement[bool]) -> list[Sequence[Any]]:
        joined = schema.segment.join(schema.job, J.id == S.job)
        clause = (
            sa.select(S.job, S.id, S.attempt, S.crashes, J.next_seq, S.priority)
            .select_from(joined)
            .where(S.state == sa.text("'queued'"), *which)
            .order_by(S.priority.desc(), S.job)
            .limit(limit)
            .with_for_update(key_share=True, skip_locked=True, of=schema.job)
        )
        statement = self._queries.statement(clause)
        return connection.run(statement.sql, statement.fill())

    def _holds_suspect(self, connection: Connection, holder: str) -> bool:
        clause = sa.select(S.job).where(S.holder == given("holder"), S.crashes >= SUSPECT).limit(1)
        statement = self._queries.statement(clause)
        return bool(connection.run(statement.sql, statement.fill(holder=holder)))

    def _take(self, connection: Connection, holder: str, found: Sequence[Sequence[Any]], now: float) -> list[Claim]:
        parts = [(job, part, "running", attempt + 1, holder) for job, part, attempt, *_ in found]
        self._rows.update(connection, (S.job, S.id), _HELD, parts)
        ids = [row[0] for row in found]
        self._rows.update(connection, (J.id,), (J.state, J.reason), [(job_id, "running", None) for job_id in ids])
        self._begin(connection, ids, now)
        taken = [(job, part, attempt + 1, holder, now) for job, part, attempt, *_ in found]
        self._rows.insert(connection, _CLAIM_COLUMNS, taken)
        jobs = {row[0]: row for row in self._queries.among(connection, "jobs", sorted(set(ids)))}

        def load(digest: str) -> bytes:
            return self._blobs.get(connection.raw, [digest])[digest]

        return [
            Claim(job_record_or_shown(jobs[job], load), part, attempt + 1, holder, next_seq - 1, crashes)
            for job, part, attempt, crashes, next_seq, _ in found
        ]

    def _begin(self, connection: Connection, ids: Sequence[str], now: float) -> None:
        """Note when jobs were first claimed."""
        clause = sa.update(schema.job).where(J.id.in_(ids), J.started_at.is_(None)).values(started_at=now)
        statement = self._queries.statement(clause)
        connection.change(statement.sql, statement.fill())


def _of(flows: Collection[str] | None) -> list[sa.ColumnElement[bool]]:
    return [] if flows is None else [S.flow.in_(sorted(flows))]


def _expired(now: float) -> list[sa.ColumnElement[bool]]:
    return [J.expires_at < now, J.started_at.is_(None), J.ended_at.is_(None)]
