"""Finding jobs by what a `Filter` says: a page costs about as much as it has rows, however many jobs there are."""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy as sa

from millstream.ledger.filter import Filter
from millstream.ledger.queries import J, Queries
from millstream.ledger.rows import JOB_COLUMNS
from millstream.ledger.statements import Statement
from millstream.model.job import JobState


@lru_cache(maxsize=256)
def listing(queries: Queries, which: Filter) -> Statement:
    """Return the statement that lists jobs, in the order that is asked for.

    An index has jobs of one state, or of one flow or owner and one state, in the order of their ids; so each state is
    asked for by itself, and the first few of each are merged.
    """
    first = sa.asc if which.oldest_first else sa.desc
    if which.reason is not None or (not which.states and which.flow is None and which.owner is None):
        return queries.statement(
            sa.select(*JOB_COLUMNS).where(*_wanted(which)).order_by(first(J.id)).limit(which.limit)
        )
    states = which.states or tuple(JobState)
    parts = [
        sa.select(
            sa.select(J.id)
            .where(J.state == state.value, *_wanted(which, by_state=False))
            .order_by(first(J.id))
            .limit(which.limit)
            .subquery()
            .c.id
        )
        for state in states
    ]
    ids = sa.union_all(*parts).subquery()
    page = sa.select(ids.c.id).order_by(first(ids.c.id)).limit(which.limit)
    return queries.statement(sa.select(*JOB_COLUMNS).where(J.id.in_(page)).order_by(first(J.id)))


def _wanted(which: Filter, *, by_state: bool = True) -> list[sa.ColumnElement[bool]]:
    wanted: list[sa.ColumnElement[bool]] = []
    if by_state and which.states:
        wanted.append(J.state.in_([state.value for state in which.states]))
    if which.flow is not None:
        wanted.append(J.flow == which.flow)
    if which.owner is not None:
        wanted.append(J.owner == which.owner)
    if which.reason is not None:
        wanted.append(J.reason == which.reason)
    if which.created_after is not None:
        wanted.append(J.created_at >= which.created_after)
    if which.created_before is not None:
        wanted.append(J.created_at < which.created_before)
    if which.before is not None:
        wanted.append(J.id < which.before)
    if which.after is not None:
        wanted.append(J.id > which.after)
    return wanted
