"""What is asked of the tables, compiled once per ledger for its database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.sql.expression import ClauseElement

from millstream.ledger import schema
from millstream.ledger.base import MAIN
from millstream.ledger.database import Connection, KeyHeldError
from millstream.ledger.facts import ENDS
from millstream.ledger.rows import JOB_COLUMNS
from millstream.ledger.statements import Statement, array_literal, given, padded

J, S, E, P, G = schema.job.c, schema.segment.c, schema.event.c, schema.process.c, schema.graph.c
A, V = schema.alias.c, schema.activity.c


class Queries:
    """Statements of one dialect.

    Args:
        dialect: The driver's.
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        """Compile nothing yet."""
        self.dialect = dialect
        self.is_sqlite = dialect.name == "sqlite"
        self._among: dict[tuple[str, int, bool], Statement] = {}

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The clock that leases go by: the database server's, or the machine's that all who share a file are on."""
        if self.is_sqlite:
            return sa.func.millstream_now(type_=sa.Double)
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)

    @contextmanager
    def short_of_patience(self, connection: Connection) -> Iterator[None]:
        """Wait but two seconds for a lock that a user's transaction may hold: others' records wait behind it.

        Raises:
            KeyHeldError: Somebody held it for longer.
        """
        if self.is_sqlite:  # it has one writer at a time
            yield
            return
        connection.change("SET LOCAL lock_timeout = '2s'")
        try:
            yield
        except Exception as error:
            if getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                raise KeyHeldError("a transaction that has not ended has this idempotency key or alias") from error
            raise
        connection.change("SET LOCAL lock_timeout = DEFAULT")

    def statement(self, clause: ClauseElement) -> Statement:
        """Compile a statement."""
        return Statement(clause, self.dialect)

    def among(self, connection: Connection, name: str, keys: Sequence[str]) -> list[Any]:
        """Return the rows that the query `name` gives for these keys."""
        if not keys:
            return []
        if not self.is_sqlite:
            found = self._compiled(name, 0)
            return connection.run(found.sql, found.fill(keys=array_literal(keys)))
        filled = padded(keys)
        found = self._compiled(name, len(filled))
        if found.count == len(filled):  # the usual one, and quicker
            return connection.run(found.sql, filled)
        return connection.run(found.sql, found.fill(**{f"key{i}": key for i, key in enumerate(filled)}))

    def at_once(self, connection: Connection, name: str, keys: Sequence[str]) -> list[Any]:
        """Return what `among` does, with as few steps as possible; for columns of text and whole numbers.

        SQLite's driver hands over the interpreter's lock for each row, and a busy loop keeps it for 5 ms each time; so
        all rows come as one.
        """
        if not self.is_sqlite or not keys:
            return self.among(connection, name, keys)
        filled = padded(keys)
        found = self._compiled(name, len(filled), as_json=True)
        ((rows,),) = connection.run(found.sql, found.fill(**{f"key{i}": key for i, key in enumerate(filled)}))
        return _unpack(rows)

    def _compiled(self, name: str, count: int, *, as_json: bool = False) -> Statement:
        found = self._among.get((name, count, as_json))
        if found is None:
            clause: sa.Select[Any] = getattr(self, f"_{name}")(_in(count) if count else _any)
            if as_json:
                row = sa.func.json_array(*clause.selected_columns)
                clause = clause.with_only_columns(sa.func.json_group_array(row)).order_by(None)
            found = self._among[name, count, as_json] = self.statement(clause)
        return found

    # ------------------------------------------------------------------------- by keys: each is given what takes them
    def _locked(self, among: Any) -> ClauseElement:
        return sa.select(J.id).where(among(J.id)).order_by(J.id).with_for_update(key_share=True)

    def _standing(self, among: Any) -> ClauseElement:
        columns = (J.id, J.state, J.reason, J.cancel_requested, J.next_seq)
        parts = (S.id, S.state, S.attempt, S.holder)
        joined = schema.job.join(schema.segment, J.id == S.job)
        return sa.select(*columns, *parts).select_from(joined).where(among(J.id))

    def _locked_sides(self, among: Any) -> ClauseElement:
        # Who claims one locks it, and not its job: each record of the job would be in the way.
        sides = sa.select(S.job).where(among(S.job), S.id > MAIN).order_by(S.job, S.id)
        return sides.with_for_update(key_share=True)

    def _jobs(self, among: Any) -> ClauseElement:
        return sa.select(*JOB_COLUMNS).where(among(J.id))

    def _by_key(self, among: Any) -> ClauseElement:
        return sa.select(*JOB_COLUMNS).where(among(J.idempotency_key))

    def _aliases(self, among: Any) -> ClauseElement:
        return sa.select(A.name, A.job, A.node).where(among(A.name))

    def _alive(self, among: Any) -> ClauseElement:
        return sa.select(P.id).where(among(P.id), ~P.dead).with_for_update(read=True)

    def _ended_nodes(self, among: Any) -> ClauseElement:
        return sa.select(E.job, E.node).where(among(E.job), E.type.in_(list(ENDS)))

    def _facts(self, among: Any) -> ClauseElement:
        return sa.select(E.job, E.type, E.node, E.data).where(among(E.job), E.node.is_not(None)).order_by(E.seq)

    def _queued(self, among: Any) -> ClauseElement:
        joined = schema.segment.join(schema.job, J.id == S.job)
        columns = (S.job, S.id, S.attempt, S.crashes, J.next_seq, S.priority, S.queue, S.order_seq)
        return sa.select(*columns).select_from(joined).where(among(S.job), S.state == sa.text("'queued'"))

    def _backlog(self, among: Any) -> ClauseElement:
        columns = (S.priority, S.job, S.id, S.attempt, S.queue, S.flow)
        return sa.select(*columns).where(among(S.job), S.state == sa.text("'queued'"))

    def _activity(self, among: Any) -> ClauseElement:
        age = self.now - V.seen_at
        return sa.select(V.job, V.process, V.is_open, V.is_polled, age).where(among(V.job))

    def _heads(self, among: Any) -> ClauseElement:
        return sa.select(J.id, J.next_seq - sa.text("1")).where(among(J.id))

    # ------------------------------------------------------------------------------------------------------ reading
    @cached_property
    def job(self) -> Statement:
        """A job's row, by id."""
        return self.statement(sa.select(*JOB_COLUMNS).where(J.id == given("id")))

    @cached_property
    def graph(self) -> Statement:
        """What a job executes, by id: graph, bindings, and aliases as JSON."""
        joined = schema.job.join(schema.graph, J.graph == G.digest)
        collect = sa.func.json_group_object if self.is_sqlite else sa.func.json_object_agg
        aliases = sa.select(sa.cast(collect(A.name, A.node), sa.Text)).where(A.job == J.id).scalar_subquery()
        return self.statement(sa.select(G.body, J.bindings, aliases).select_from(joined).where(J.id == given("id")))

    @cached_property
    def events(self) -> Statement:
        """A job's events above a number, a page of them."""
        return self.statement(
            sa.select(E.seq, E.type, E.at, E.node, E.data)
            .where(E.job == given("id"), E.seq > given("after"))
            .order_by(E.seq)
            .limit(given("most"))
        )

    @cached_property
    def event(self) -> Statement:
        """One of a job's events, by its number."""
        return self.statement(
            sa.select(E.seq, E.type, E.at, E.node, E.data).where(E.job == given("id"), E.seq == given("seq"))
        )

    @cached_property
    def ends_after(self) -> Statement:
        """Which nodes of a job have ended after one of its events."""
        later = (E.job == given("id"), E.seq > given("after"))
        return self.statement(sa.select(E.node).where(*later, E.type.in_(list(ENDS))))

    @cached_property
    def answers_after(self) -> Statement:
        """An answer to a wait after one of a job's events."""
        later = (E.job == given("id"), E.seq > given("after"))
        return self.statement(sa.select(E.seq).where(*later, E.type == "answered").limit(1))

    @cached_property
    def ends(self) -> Statement:
        """The ends of a job's nodes, in order: state, node, data."""
        return self.statement(
            sa.select(E.type, E.node, E.data).where(E.job == given("id"), E.type.in_(list(ENDS))).order_by(E.seq)
        )

    @cached_property
    def end(self) -> Statement:
        """The end of one of a job's nodes: state, data.

        No index has the nodes. Of 10,000 the last is found in 1 ms by the events' own key, on either database (2.6 ms
        where each value has 2 kB); and every event would pay for an index: on SQLite 0 to 30 % of the events written
        per second, in noisy runs.
        """
        is_end = E.type.in_(list(ENDS))
        return self.statement(
            sa.select(E.type, E.data).where(E.job == given("id"), E.node == given("node"), is_end).limit(1)
        )


LOCK_NOT_AVAILABLE = "55P03"

_unpack = msgspec.json.Decoder(list[list[Any]]).decode


def _any(column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return column == sa.any_(given("keys"))


def _in(count: int) -> Any:
    def among(column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return column.in_([given(f"key{i}") for i in range(count)])

    return among
