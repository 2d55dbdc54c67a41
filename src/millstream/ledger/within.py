"""Submitting inside a user's own transaction: the job is there if and only if that is committed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from millstream.ledger import schema
from millstream.ledger.aliases import alias_conflict
from millstream.ledger.bell import CHANNEL, write
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import CollisionError
from millstream.ledger.queries import A, J
from millstream.ledger.rows import JOB_COLUMNS, NEW_JOB_COLUMNS, NewJob, check_same, job_record_or_shown, own_graph
from millstream.model.job import JobRecord, JobState


def submit(connection: sa.Connection, new: NewJob, blobs: Blobs) -> JobRecord:
    """Record a new job, unclaimed; with a known idempotency key, return the job that has it.

    Raises:
        IdempotencyConflictError: The key belongs to a job with another flow or other inputs, or an alias to any.
        CollisionError: Another transaction is just about to take the key, or an alias.
    """
    known = _known(connection, new, blobs)
    return known or _record(connection, new, blobs) or _taken(connection, new, blobs)


def _record(connection: sa.Connection, new: NewJob, blobs: Blobs) -> JobRecord | None:
    """Record a job; nothing comes of it where another transaction has just taken its key."""
    job = new.job
    graph = _graph_key(connection, job)
    row = {column.name: value for column, value in zip(NEW_JOB_COLUMNS, new.row, strict=True)} | {"graph": graph}
    made = connection.execute(_insert(connection, schema.job).values(row).on_conflict_do_nothing())
    if not made.rowcount:
        return None
    if new.aliases:
        _take_aliases(connection, new)
    body = {"digest": graph, "body": new.graph}
    connection.execute(_insert(connection, schema.graph).values(body).on_conflict_do_nothing())  # see `_drop_graphs`
    connection.execute(sa.insert(schema.segment).values(new.segment_row(None)))
    connection.execute(sa.insert(schema.event), [_named(schema.event, row) for row in new.event_rows()])
    if new.large:
        blobs.put(connection, job.id, new.large)
    if connection.dialect.name == "postgresql" and job.state is JobState.QUEUED:
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, write([("queued", job.id)]).decode())))
    return job


def _take_aliases(connection: sa.Connection, new: NewJob) -> None:
    """Give a job its aliases; where another one has one, take the job back: the user may commit all the same."""
    job_id = new.job.id
    rows = [_named(schema.alias, row) for row in sorted(new.alias_rows())]
    connection.execute(_insert(connection, schema.alias).on_conflict_do_nothing(), rows)
    mine = set(connection.execute(sa.select(A.name).where(A.job == job_id)).scalars())
    if len(mine) == len(rows):
        return
    connection.execute(sa.delete(schema.alias).where(A.job == job_id))
    connection.execute(sa.delete(schema.job).where(J.id == job_id))
    name = next(name for name in new.aliases if name not in mine)
    owner = connection.execute(sa.select(A.job).where(A.name == name)).scalar()
    if owner is None:
        raise CollisionError(f"the alias {name!r} was taken meanwhile; submit again")
    raise alias_conflict(name, owner)


def _graph_key(connection: sa.Connection, job: JobRecord) -> str:
    """Return the key of a job's graph: its digest where that is there for all to see, else one that nobody else has.

    Whoever wrote the same digest would have to wait for the user's transaction, which may take its time.
    """
    known = connection.execute(sa.select(schema.graph.c.digest).where(schema.graph.c.digest == job.graph)).first()
    return job.graph if known is not None else own_graph(job)


def _taken(connection: sa.Connection, new: NewJob, blobs: Blobs) -> JobRecord:
    """Return the job that another transaction has just committed; one that sees old rows alone cannot."""
    known = _known(connection, new, blobs)
    if known is None:
        raise CollisionError(f"the idempotency key {new.job.idempotency_key!r} was taken meanwhile; submit again")
    return known


def _known(connection: sa.Connection, new: NewJob, blobs: Blobs) -> JobRecord | None:
    if new.job.idempotency_key is None:
        return None
    found = connection.execute(sa.select(*JOB_COLUMNS).where(J.idempotency_key == new.job.idempotency_key)).first()
    if found is None:
        return None
    row = tuple(found)
    known = job_record_or_shown(row, lambda digest: blobs.get(connection, [digest])[digest])
    return check_same(new, row, known)


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an insertion that may say what to do where the row is there already."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _named(table: sa.Table, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column.name: value for column, value in zip(table.c, row, strict=True)}
