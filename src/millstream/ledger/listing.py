"""Finding jobs by what a `Filter` says: a page costs about as much as it has rows, however many jobs there are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa

from millstream.ledger.filter import Filter
from millstream.ledger.queries import J, Queries
from millstream.ledger.rows import JOB_COLUMNS, is_text
from millstream.ledger.statements import Statement, given
from millstream.model.job import JobState

_TEXTS = ("flow", "owner", "before", "after")
_VALUES = (*_TEXTS, "reason", "created_after", "created_before")


def listing(queries: Queries, which: Filter) -> tuple[Statement, list[Any]] | None:
    """Return the statement that lists jobs, in the order that is asked for, with what it is filled with.

    Nothing is returned where no job can be meant: no database holds such a text.
    """
    values = {name: value for name in _VALUES if (value := getattr(which, name)) is not None}
    if not all(is_text(values[name]) for name in _TEXTS if name in values):
        return None
    shape = _Shape(frozenset(values), tuple(sorted(which.states)), which.oldest_first)
    statement = _compiled(queries, shape)
    return statement, statement.fill(**values, most=which.limit)


class _Shape(msgspec.Struct, frozen=True):
    """What of a `Filter` makes a statement of its own: to compile one takes 5 ms."""

    given: frozenset[str]
    states: tuple[JobState, ...]
    oldest_first: bool


@lru_cache(maxsize=256)
def _compiled(queries: Queries, shape: _Shape) -> Statement:
    """Return the statement of a shape.

    An index has jobs of one state, or of one flow or owner and one state, in the order of their ids; so each state is
    asked for by itself, and the first few of each are merged.
    """
    first, most = sa.asc if shape.oldest_first else sa.desc, given("most", sa.Integer)
    if "reason" in shape.given or (not shape.states and shape.given.isdisjoint({"flow", "owner"})):
        among = [J.state.in_([state.value for state in shape.states])] if shape.states else []
        wanted = sa.select(*JOB_COLUMNS).where(*among, *_wanted(shape))
        return queries.statement(wanted.order_by(first(J.id)).limit(most))
    parts = [
        sa.select(
            sa.select(J.id)
            .where(J.state == sa.literal(state.value), *_wanted(shape))
            .order_by(first(J.id))
            .limit(most)
            .subquery()
            .c.id
        )
        for state in shape.states or tuple(JobState)
    ]
    ids = sa.union_all(*parts).subquery()
    page = sa.select(ids.c.id).order_by(first(ids.c.id)).limit(most)
    return queries.statement(sa.select(*JOB_COLUMNS).where(J.id.in_(page)).order_by(first(J.id)))


def _wanted(shape: _Shape) -> list[sa.ColumnElement[bool]]:
    all_of = {
        "flow": J.flow == given("flow"),
        "owner": J.owner == given("owner"),
        "reason": J.reason == given("reason"),
        "created_after": J.created_at >= given("created_after", sa.Double),
        "created_before": J.created_at < given("created_before", sa.Double),
        "before": J.id < given("before"),
        "after": J.id > given("after"),
    }
    return [condition for name, condition in all_of.items() if name in shape.given]
