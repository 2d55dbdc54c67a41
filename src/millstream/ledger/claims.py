"""Claiming: which segments may start now, and whose they become."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.expression import ClauseElement

from millstream import points
from millstream.ledger import schema
from millstream.ledger.base import Claim, FencedError
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import J, Queries, S
from millstream.ledger.rows import JOB_COLUMNS, job_record_or_shown
from millstream.ledger.statements import Rows, Statement, given

_PROMOTED = 500
_COMPILED = 200
SUSPECT = 2
"""From so many deaths on a segment is suspected to cause them."""

_SUSPECT: sa.ColumnElement[int] = sa.literal_column(str(SUSPECT))
_CLAIM_COLUMNS = tuple(schema.claim.c)
_HELD = (S.state, S.attempt, S.holder)
_RUNNING = (J.state, J.reason, J.started_at)
_STATE, _REASON, _STARTED = (JOB_COLUMNS.index(column) for column in _RUNNING)


class Wanted(NamedTuple):
    """Which segments are looked for.

    Attributes:
        flows: Those of jobs of these; all without.
        is_late: Those of jobs that should have started by now.
    """

    flows: tuple[str, ...] | None = None
    is_late: bool = False

    @property
    def clauses(self) -> list[sa.ColumnElement[bool]]:
        """What a job and its segment have to meet; `now` is given at each execution."""
        if self.is_late:
            return [J.expires_at < given("now"), J.started_at.is_(None), J.ended_at.is_(None)]
        return [] if self.flows is None else [S.flow.in_(self.flows)]


_LATE = Wanted(is_late=True)


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
        self._compiled: dict[tuple[Any, ...], Statement] = {}

    def _statement(self, key: tuple[Any, ...], clause: Callable[[], ClauseElement]) -> Statement:
        """Return a statement, compiled once for each key: whoever polls asks the same again and again."""
        found = self._compiled.get(key)
        if found is None:
            if len(self._compiled) > _COMPILED:
                self._compiled.clear()
            found = self._compiled[key] = self._queries.statement(clause())
        return found

    # ------------------------------------------------------------------------------------------------------ looking
    def is_any(self, connection: Connection, flows: Collection[str] | None, now: float) -> bool:
        """Return whether something may start; a read, so that whoever finds nothing has written nothing."""
        wanted = _of(flows)
        for state, clause in (("queued", _some_queued), ("due", _some_due)):
            statement = self._statement((state, wanted), partial(clause, wanted))
            if connection.run(statement.sql, statement.fill(now=now)):
                return True
        return False

    def is_any_expired(self, connection: Connection, now: float) -> bool:
        """Return whether a queued job should have started by now; a read, as `is_any`."""
        statement = self._statement(("queued", _LATE), lambda: _some_queued(_LATE))
        return bool(connection.run(statement.sql, statement.fill(now=now)))

    def due_at(self, connection: Connection, flows: Collection[str] | None) -> float | None:
        """Return when the next timer is over."""
        wanted = _of(flows)
        statement = self._statement(("time", wanted), lambda: _next_time(wanted))
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
        return self._claim(connection, holder, limit, _LATE, now)

    def _claim(self, connection: Connection, holder: str, limit: int, wanted: Wanted, now: float) -> list[Claim]:
        with transaction(connection):
            if not self._queries.among(connection, "alive", [holder]):
                raise FencedError(f"{holder} is not a member of this ledger")
            self._promote(connection, now)
            found = self._candidates(connection, holder, limit, wanted, now)
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
        self, connection: Connection, holder: str, limit: int, wanted: Wanted, now: float
    ) -> list[Sequence[Any]]:
        """Return what is to be claimed, its jobs locked: at most one suspect, and none while the holder has one."""
        calm = self._statement(("calm", wanted), lambda: _first(wanted, S.crashes < _SUSPECT))
        found = connection.run(calm.sql, calm.fill(most=limit, now=now))
        if not self._holds_suspect(connection, holder):
            suspect = self._statement(("suspect", wanted), lambda: _first(wanted, S.crashes >= _SUSPECT))
            found += connection.run(suspect.sql, suspect.fill(most=1, now=now))
        if not self._queries.is_sqlite:  # what was read before the lock may have been claimed before it
            locked = {(row[0], row[1]) for row in found}
            again = self._queries.among(connection, "queued", sorted({job for job, _ in locked}))
            found = [row for row in again if (row[0], row[1]) in locked]
        return sorted(found, key=lambda row: (-row[5], row[0], row[1]))[:limit]

    def _holds_suspect(self, connection: Connection, holder: str) -> bool:
        statement = self._statement(("held",), _suspects_held)
        return bool(connection.run(statement.sql, statement.fill(holder=holder)))

    def _take(self, connection: Connection, holder: str, found: Sequence[Sequence[Any]], now: float) -> list[Claim]:
        parts = [(job, part, "running", attempt + 1, holder) for job, part, attempt, *_ in found]
        self._rows.update(connection, (S.job, S.id), _HELD, parts)
        ids = [row[0] for row in found]
        jobs = {row[0]: row for row in self._queries.among(connection, "jobs", sorted(set(ids)))}
        begun = {job_id: job[_STARTED] or now for job_id, job in jobs.items()}
        self._rows.update(
            connection, (J.id,), _RUNNING, [(job_id, "running", None, at) for job_id, at in begun.items()]
        )
        taken = [(job, part, attempt + 1, holder, now) for job, part, attempt, *_ in found]
        self._rows.insert(connection, _CLAIM_COLUMNS, taken)

        def load(digest: str) -> bytes:
            return self._blobs.get(connection.raw, [digest])[digest]

        return [
            Claim(
                job_record_or_shown(_running(jobs[job], begun[job]), load),
                part,
                attempt + 1,
                holder,
                next_seq - 1,
                crashes,
            )
            for job, part, attempt, crashes, next_seq, _ in found
        ]


def _some_queued(wanted: Wanted) -> ClauseElement:
    return _some(wanted, S.state == sa.text("'queued'"))


def _some_due(wanted: Wanted) -> ClauseElement:
    return _some(wanted, (S.state == sa.text("'waiting'")) & (S.ready_at <= given("now")))


def _some(wanted: Wanted, which: sa.ColumnElement[bool]) -> ClauseElement:
    where = schema.segment.join(schema.job, J.id == S.job) if wanted.is_late else schema.segment
    return sa.select(S.id).select_from(where).where(which, *wanted.clauses).limit(1)


def _next_time(wanted: Wanted) -> ClauseElement:
    waiting = sa.select(S.ready_at).where(S.state == sa.text("'waiting'"), S.ready_at.is_not(None), *wanted.clauses)
    return waiting.order_by(S.ready_at).limit(1)


def _first(wanted: Wanted, which: sa.ColumnElement[bool]) -> ClauseElement:
    """Return what finds the segments to claim, and locks their jobs without waiting for anybody who has one locked."""
    return (
        sa.select(S.job, S.id, S.attempt, S.crashes, J.next_seq, S.priority)
        .select_from(schema.segment.join(schema.job, J.id == S.job))
        .where(S.state == sa.text("'queued'"), which, *wanted.clauses)
        .order_by(S.priority.desc(), S.job)
        .limit(given("most"))
        .with_for_update(key_share=True, skip_locked=True, of=schema.job)
    )


def _suspects_held() -> ClauseElement:
    return sa.select(S.job).where(S.holder == given("holder"), S.crashes >= _SUSPECT).limit(1)


def _of(flows: Collection[str] | None) -> Wanted:
    return Wanted(None if flows is None else tuple(sorted(flows)))


def _running(row: Sequence[Any], started_at: float) -> list[Any]:
    """Return a job's row, as it is now that it was claimed."""
    changed = list(row)
    changed[_STATE], changed[_REASON], changed[_STARTED] = "running", None, started_at
    return changed
