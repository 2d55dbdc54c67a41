"""What is queued, as those need to know who tell workers of it; and whose turn that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from millstream.ledger import schema
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import Queries, S
from millstream.ledger.queued import Queued
from millstream.ledger.statements import Statement, given

T = schema.turn.c

_COLUMNS = (S.priority, S.job, S.id, S.attempt, S.queue, S.flow)
_QUEUED = S.state == sa.text("'queued'")
_DUE = (S.state == sa.text("'waiting'")) & (S.ready_at <= given("now"))


class Backlog:
    """Tells what is queued.

    Args:
        queries: What is asked.
    """

    def __init__(self, queries: Queries) -> None:
        """Take the parts."""
        self._queries = queries

    def waiting(self, connection: Connection, now: float, most: int) -> list[Queued]:
        """Return the first ones of each queue and flow; see `SharedLedger.waiting`."""
        rows = connection.run(self._due.sql, self._due.fill(now=now, most=most))
        queue: str | None = None
        flow = ""
        # By an index, from one pair of queue and flow to the next: what is behind the first ones costs nothing.
        while kind := self._after(connection, queue, flow, most):
            queue, flow = kind[0][4:]
            rows += [row for row in kind if row[4:] == kind[0][4:]]
        return _first(rows, most)

    def waiting_of(self, connection: Connection, jobs: Sequence[str], most: int) -> list[Queued]:
        """Return the same of some jobs alone."""
        return _first(self._queries.among(connection, "backlog", jobs), most)

    def count(self, connection: Connection, now: float, most: int) -> int:
        """Return how much is queued; see `SharedLedger.backlog`."""
        ((found,),) = connection.run(self._count.sql, self._count.fill(now=now, most=most))
        return min(int(found), most)

    def is_free(self, connection: Connection, turn: str, process: str, seconds: float) -> bool:
        """Return whether a turn may be taken; a read, so that whoever does not get it has written nothing."""
        taken = self._taken
        return not connection.run(taken.sql, taken.fill(turn=turn, process=process, seconds=seconds))

    def take_turn(self, connection: Connection, turn: str, process: str, seconds: float) -> bool:
        """Take a turn; see `SharedLedger.take_turn`."""
        taking = self._taking
        with transaction(connection):
            return connection.change(taking.sql, taking.fill(turn=turn, process=process, seconds=seconds)) == 1

    def _after(self, connection: Connection, queue: str | None, flow: str, most: int) -> list[Any]:
        """Return rows that begin with those of the next flow in a queue, or of the first one in the next queue."""
        same = self._next_default if queue is None else self._next_flow
        return connection.run(same.sql, same.fill(queue=queue, flow=flow, most=most)) or connection.run(
            self._next_queue.sql, self._next_queue.fill(queue=queue or "", most=most)
        )

    # --------------------------------------------------------------------------------------------------- statements
    @cached_property
    def _next_default(self) -> Statement:
        return self._queries.statement(_listed(S.queue.is_(None), S.flow > given("flow")))

    @cached_property
    def _next_flow(self) -> Statement:
        return self._queries.statement(_listed(S.queue == given("queue"), S.flow > given("flow")))

    @cached_property
    def _next_queue(self) -> Statement:
        return self._queries.statement(_listed(S.queue > given("queue")))

    @cached_property
    def _due(self) -> Statement:
        """What is due: few, since whoever claims has all of it queued first."""
        nth = sa.func.row_number().over(partition_by=(S.queue, S.flow), order_by=(S.ready_at, S.job, S.id))
        listed = sa.select(*_COLUMNS, nth.label("nth")).where(_DUE).subquery()
        return self._queries.statement(sa.select(*list(listed.c)[:-1]).where(listed.c.nth <= given("most")))

    @cached_property
    def _count(self) -> Statement:
        some = [sa.select(S.id).where(which).limit(given("most")).subquery() for which in (_QUEUED, _DUE)]
        queued, due = (sa.select(sa.func.count()).select_from(one).scalar_subquery() for one in some)
        return self._queries.statement(sa.select(queued + due))

    @cached_property
    def _taken(self) -> Statement:
        return self._queries.statement(sa.select(T.name).where(T.name == given("turn"), ~self._is_free))

    @cached_property
    def _taking(self) -> Statement:
        insert = sqlite.insert if self._queries.is_sqlite else postgresql.insert
        taken = insert(schema.turn).values(
            name=given("turn"), holder=given("process"), lease_end=self._queries.now + _SECONDS
        )
        changed: Any = {T.holder: taken.excluded.holder, T.lease_end: taken.excluded.lease_end}
        return self._queries.statement(
            taken.on_conflict_do_update(index_elements=[T.name], set_=changed, where=self._is_free)
        )

    @property
    def _is_free(self) -> sa.ColumnElement[bool]:
        """Whether a turn may be taken; also where the clock began anew, as that of SQLite does with the machine."""
        now = self._queries.now
        return (T.holder == given("process")) | (T.lease_end <= now) | (T.lease_end > now + _SECONDS)


_SECONDS = given("seconds", sa.Double)


def _listed(*which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    by = (S.queue, S.flow, S.priority.desc(), S.job, S.id)
    return sa.select(*_COLUMNS).where(_QUEUED, *which).order_by(*by).limit(given("most"))


def _first(rows: Iterable[Sequence[Any]], most: int) -> list[Queued]:
    """Return the first ones of each queue and flow, in the order in which segments are claimed."""
    counts: Counter[tuple[str | None, str]] = Counter()
    chosen = []
    for row in sorted(rows, key=lambda row: (-row[0], row[1], row[2])):
        queued = Queued(*row[1:])
        counts[queued.queue, queued.flow] += 1
        if counts[queued.queue, queued.flow] <= most:
            chosen.append(queued)
    return chosen
