"""Claiming: which segments may start now, and whose they become."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.expression import ClauseElement

from millstream import points
from millstream.ledger import schema
from millstream.ledger.base import MAIN, Claim, FencedError
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import LOCK_NOT_AVAILABLE, J, Queries, S
from millstream.ledger.rows import JOB_COLUMNS, job_record_or_shown
from millstream.ledger.statements import Rows, Statement, given

_PROMOTED = 500
_COMPILED = 200
_INSIST_MS = 50
SUSPECT = 2
"""From so many deaths on a segment is suspected to cause them."""

_SUSPECT: sa.ColumnElement[int] = sa.literal_column(str(SUSPECT))
_IS_MAIN, _IS_SIDE = S.id == sa.text(str(MAIN)), S.id > sa.text(str(MAIN))
_CLAIM_COLUMNS = tuple(schema.claim.c)
_HELD = (S.state, S.attempt, S.holder)
_RUNNING = (J.state, J.reason, J.started_at)
_STATE, _REASON, _STARTED = (JOB_COLUMNS.index(column) for column in _RUNNING)


class Wanted(NamedTuple):
    """Which segments are looked for.

    Attributes:
        flows: Those of jobs of these; all without.
        queues: Those of these queues, `None` for the default one; all without.
        has_sides: Whether side segments are among them.
        is_late: Those of jobs that should have started by now.
    """

    flows: tuple[str, ...] | None = None
    queues: tuple[str | None, ...] | None = None
    has_sides: bool = True
    is_late: bool = False

    @property
    def clauses(self) -> list[sa.ColumnElement[bool]]:
        """What a job and its segment have to meet; `now` is given at each execution."""
        if self.is_late:
            return [J.expires_at < given("now"), J.started_at.is_(None), J.ended_at.is_(None)]
        clauses: list[sa.ColumnElement[bool]] = [] if self.has_sides else [_IS_MAIN]
        if self.flows is not None:
            clauses.append(S.flow.in_(self.flows))
        if self.queues is not None:
            named = S.queue.in_([queue for queue in self.queues if queue is not None])
            clauses.append(named | S.queue.is_(None) if None in self.queues else named)
        return clauses


_LATE = Wanted(has_sides=False, is_late=True)


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
    def _is_any(self, connection: Connection, wanted: Wanted, now: float) -> bool:
        """Return whether something may start; a read."""
        for state, clause in (("queued", _some_queued), ("due", _some_due)):
            statement = self._statement((state, wanted), partial(clause, wanted))
            if connection.run(statement.sql, statement.fill(now=now)):
                return True
        return False

    def is_any_expired(self, connection: Connection, now: float) -> bool:
        """Return whether a queued job should have started by now; a read."""
        statement = self._statement(("queued", _LATE), lambda: _some_queued(_LATE))
        return bool(connection.run(statement.sql, statement.fill(now=now)))

    def due_at(self, connection: Connection, wanted: Wanted) -> float | None:
        """Return when the next timer is over."""
        statement = self._statement(("time", wanted), lambda: _next_time(wanted))
        rows = connection.run(statement.sql, statement.fill())
        return float(rows[0][0]) if rows else None

    # ----------------------------------------------------------------------------------------------------- claiming
    def claim(
        self, connection: Connection, holder: str, most: tuple[int, int], wanted: Wanted, now: float
    ) -> list[Claim]:
        """Claim segments, and side segments among them, at most so many; see `Ledger.claim`.

        Whoever finds nothing has written nothing.

        Raises:
            FencedError: The holder is no member (any more).
        """
        if not self._is_any(connection, wanted, now):
            return []
        with transaction(connection):
            self._check_member(connection, holder)
            self._promote(connection, now)
            found = self._candidates(connection, holder, most, wanted, now)
            claims = self._take(connection, holder, found, now) if found else []
            points.reach("in-commit")
        return claims if claims or self._queries.is_sqlite else self._insist(connection, holder, wanted, now)

    def _insist(self, connection: Connection, holder: str, wanted: Wanted, now: float) -> list[Claim]:
        """Claim the first main segment whose job others have locked: wait for that, but not for one who was stopped.

        A job of which several processes record is locked most of the time: of 752 looks for its main segment 552 found
        nothing, and the next look may be half a second away.
        """
        first = self._statement(("first", wanted), lambda: _some_main(wanted))
        found = connection.run(first.sql, first.fill(now=now))
        if not found:
            return []
        try:
            with transaction(connection):
                connection.change(f"SET LOCAL lock_timeout = '{_INSIST_MS}ms'")
                self._check_member(connection, holder)
                self._queries.among(connection, "locked", [found[0][0]])
                queued = self._queries.among(connection, "queued", [found[0][0]])
                still = [row for row in queued if row[1] == MAIN and row[3] < SUSPECT]
                return self._take(connection, holder, still, now) if still else []
        except Exception as error:
            if getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                return []
            raise

    def claim_expired(self, connection: Connection, holder: str, limit: int, now: float) -> list[Claim]:
        """Claim at most `limit` segments of expired jobs; see `SharedLedger.claim_expired`.

        Raises:
            FencedError: The holder is no member (any more).
        """
        return self.claim(connection, holder, (limit, 0), _LATE, now)

    def _check_member(self, connection: Connection, holder: str) -> None:
        if not self._queries.among(connection, "alive", [holder]):
            raise FencedError(f"{holder} is not a member of this ledger")

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
        self, connection: Connection, holder: str, most: tuple[int, int], wanted: Wanted, now: float
    ) -> list[Sequence[Any]]:
        """Return what is to be claimed, locked: at most one suspect, and none while the holder has one."""
        limit, sides = most
        calm = self._statement(("calm", wanted), lambda: _first(wanted, S.crashes < _SUSPECT))
        found = connection.run(calm.sql, calm.fill(most=limit, sides=sides, now=now))
        if not self._holds_suspect(connection, holder):
            suspect = self._statement(("suspect", wanted), lambda: _first(wanted, S.crashes >= _SUSPECT))
            found += sorted(connection.run(suspect.sql, suspect.fill(most=1, sides=1, now=now)), key=_rank)[:1]
        if not self._queries.is_sqlite:  # what was read before the lock may have been claimed before it
            locked = {(row[0], row[1]) for row in found}
            again = self._queries.among(connection, "queued", sorted({job for job, _ in locked}))
            found = [row for row in again if (row[0], row[1]) in locked]
        found.sort(key=_rank)
        if not wanted.has_sides:
            return found[:limit]
        surplus = [row for row in found if row[1] != MAIN][sides:]
        return [row for row in found if row not in surplus][:limit]

    def _holds_suspect(self, connection: Connection, holder: str) -> bool:
        statement = self._statement(("held",), _suspects_held)
        return bool(connection.run(statement.sql, statement.fill(holder=holder)))

    def _take(self, connection: Connection, holder: str, found: Sequence[Sequence[Any]], now: float) -> list[Claim]:
        parts = [(job, part, "running", attempt + 1, holder) for job, part, attempt, *_ in found]
        self._rows.update(connection, (S.job, S.id), _HELD, parts)
        jobs = {row[0]: row for row in self._queries.among(connection, "jobs", sorted({row[0] for row in found}))}
        begun = [(row[0], "running", None, jobs[row[0]][_STARTED] or now) for row in found if row[1] == MAIN]
        self._rows.update(connection, (J.id,), _RUNNING, begun)
        for job_id, _, _, started_at in begun:
            jobs[job_id] = _running(jobs[job_id], started_at)
        taken = [(job, part, attempt + 1, holder, now) for job, part, attempt, *_ in found]
        self._rows.insert(connection, _CLAIM_COLUMNS, taken)

        def load(digest: str) -> bytes:
            return self._blobs.get(connection.raw, [digest])[digest]

        return [
            Claim(
                job_record_or_shown(jobs[job], load),
                part,
                attempt + 1,
                holder,
                next_seq - 1,
                crashes,
                order,
                queue,
            )
            for job, part, attempt, crashes, next_seq, _, queue, order in found
        ]


def _some_queued(wanted: Wanted) -> ClauseElement:
    return _some(wanted, S.state == sa.text("'queued'"))


def _some_due(wanted: Wanted) -> ClauseElement:
    return _some(wanted, (S.state == sa.text("'waiting'")) & (S.ready_at <= given("now")))


def _some_main(wanted: Wanted) -> ClauseElement:
    """Return what finds the job of the first main segment that could be claimed, if nobody had it locked."""
    calm = (S.state == sa.text("'queued'"), S.crashes < _SUSPECT, _IS_MAIN)
    joined = schema.segment.join(schema.job, J.id == S.job)
    queued = sa.select(S.job).select_from(joined).where(*calm, *wanted.clauses)
    return queued.order_by(S.priority.desc(), S.job).limit(1)


def _some(wanted: Wanted, which: sa.ColumnElement[bool]) -> ClauseElement:
    where = schema.segment.join(schema.job, J.id == S.job) if wanted.is_late else schema.segment
    return sa.select(S.id).select_from(where).where(which, *wanted.clauses).limit(1)


def _next_time(wanted: Wanted) -> ClauseElement:
    waiting = sa.select(S.ready_at).where(S.state == sa.text("'waiting'"), S.ready_at.is_not(None), *wanted.clauses)
    return waiting.order_by(S.ready_at).limit(1)


def _first(wanted: Wanted, which: sa.ColumnElement[bool]) -> ClauseElement:
    """Return what finds the segments to claim, and locks them without waiting for anybody who has them locked.

    Of a main segment the job is locked, which the claim changes; of a side one the segment alone, since its job is
    locked much of the time by those who record in it.
    """
    columns = (S.job, S.id, S.attempt, S.crashes, J.next_seq, S.priority, S.queue, S.order_seq)
    queued = (
        sa.select(*columns)
        .select_from(schema.segment.join(schema.job, J.id == S.job))
        .where(S.state == sa.text("'queued'"), which, *wanted.clauses)
        .order_by(S.priority.desc(), S.job)
    )
    mains = queued.where(_IS_MAIN).limit(given("most"))
    mains = mains.with_for_update(key_share=True, skip_locked=True, of=schema.job)
    if not wanted.has_sides:
        return mains
    sides = queued.where(_IS_SIDE).order_by(S.id).limit(given("sides"))
    sides = sides.with_for_update(key_share=True, skip_locked=True, of=schema.segment)
    return sa.union_all(sa.select(mains.subquery()), sa.select(sides.subquery()))


def _suspects_held() -> ClauseElement:
    return sa.select(S.job).where(S.holder == given("holder"), S.crashes >= _SUSPECT).limit(1)


def wanted_of(flows: Collection[str] | None, queues: Collection[str | None] | None, sides: int | None = None) -> Wanted:
    """Return what `Ledger.claim` and `Ledger.due_at` are asked for."""
    return Wanted(
        None if flows is None else tuple(sorted(flows)),
        None if queues is None else tuple(sorted(queues, key=lambda queue: queue or "")),
        sides != 0,
    )


def _rank(row: Sequence[Any]) -> tuple[int, str, int]:
    """Return by what segments come one after the other: the higher priority first, then the older job."""
    return -row[5], row[0], row[1]


def _running(row: Sequence[Any], started_at: float) -> list[Any]:
    """Return a job's row, as it is now that it was claimed."""
    changed = list(row)
    changed[_STATE], changed[_REASON], changed[_STARTED] = "running", None, started_at
    return changed
