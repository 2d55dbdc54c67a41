"""What has to hold of every job in a ledger at any time, asked of the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from millstream.ledger import schema
from millstream.ledger.base import MAIN
from millstream.ledger.sides import HANDED_OUT
from millstream.model.event import TERMINAL
from millstream.model.job import FINAL_STATES
from millstream.model.value import decode_shown, references

_J, _E, _S, _U = schema.job.c, schema.event.c, schema.segment.c, schema.blob_use.c
_FINAL: Final = sorted(state.value for state in FINAL_STATES)
_OPEN_SEGMENT: Final = ("queued", "running", "waiting")
_PAGE: Final = 5000


class Problem(msgspec.Struct, frozen=True):
    """Something that is not as it has to be.

    Attributes:
        job: The job that it is about, where it is about one.
        what: What was found.
    """

    job: str | None
    what: str


def problems(connection: sa.Connection) -> Iterator[Problem]:
    """Yield every breach of what the ledger promises; the caller sees to it that all reads see one state."""
    for look in (_numbers, _strays, _ends, _segments, _sides, _holders, _graphs, _references):
        yield from look(connection)


def _numbers(connection: sa.Connection) -> Iterator[Problem]:
    """Events are numbered 1 to n, and the next number is n + 1."""
    count, first, last = sa.func.count(_E.seq), sa.func.min(_E.seq), sa.func.max(_E.seq)
    asked = (
        sa.select(_J.id, _J.next_seq, count, first, last)
        .select_from(schema.job.outerjoin(schema.event, _E.job == _J.id))
        .group_by(_J.id, _J.next_seq)
        .having((count != _J.next_seq - 1) | (first != 1) | (last != _J.next_seq - 1))
    )
    for job, next_seq, found, lowest, highest in connection.execute(asked):
        numbers = f"are {found}, numbered {lowest} to {highest}," if found else "are none,"
        yield Problem(job, f"its events {numbers} and its next one would be {next_seq}")


def _strays(connection: sa.Connection) -> Iterator[Problem]:
    """Whatever belongs to a job belongs to one that is there."""
    kinds = {
        "events": _E.job,
        "segments": _S.job,
        "claims": schema.claim.c.job,
        "large values": _U.job,
        "aliases": schema.alias.c.job,
    }
    for kind, column in kinds.items():
        asked = sa.select(column).distinct().where(column.not_in(sa.select(_J.id)))
        for job in connection.execute(asked).scalars():
            yield Problem(job, f"there is no such job, but {kind} of it")


def _ends(connection: sa.Connection) -> Iterator[Problem]:
    """A job that has ended has one terminal event, its last, which tells its state; another job has none."""
    is_final, is_last = _J.state.in_(_FINAL), _E.seq == _J.next_seq - 1
    joined = schema.job.join(schema.event, _E.job == _J.id)
    early = sa.select(_J.id, _E.seq).select_from(joined).where(_E.type == TERMINAL, sa.or_(~is_final, ~is_last))
    for job, seq in connection.execute(early):
        yield Problem(job, f"its event {seq} says that it has ended, and it has not, or goes on after that")
    last = schema.job.outerjoin(schema.event, sa.and_(_E.job == _J.id, is_last, _E.type == TERMINAL))
    asked = sa.select(_J.id, _J.state, _E.data).select_from(last).where(is_final)
    for job, state, data in _pages(connection, asked, _J.id):
        told = None if data is None else decode_shown(data)["state"]
        if told != state:
            yield Problem(job, f"it is {state}, and its last event says {told or 'nothing of it'}")


def _segments(connection: sa.Connection) -> Iterator[Problem]:
    """A job that has ended has no open segment; of another one the main one is, or nobody will ever go on with it."""
    open_one = sa.exists().where(_S.job == _J.id, _S.state.in_(_OPEN_SEGMENT))
    is_final = _J.state.in_(_FINAL)
    for job, state in connection.execute(sa.select(_J.id, _J.state).where(is_final, open_one)):
        yield Problem(job, f"it is {state}, and a segment of it is still open")
    open_main = sa.exists().where(_S.job == _J.id, _S.id == MAIN, _S.state.in_(_OPEN_SEGMENT))
    for job, state in connection.execute(sa.select(_J.id, _J.state).where(~is_final, ~open_main)):
        yield Problem(job, f"it is {state}, and has no open main segment: nobody can go on with it")


def _sides(connection: sa.Connection) -> Iterator[Problem]:
    """An event says what each side segment executes; a main one waits for side ones only as long as one is open."""
    ordered = sa.exists().where(_E.job == _S.job, _E.seq == _S.order_seq, _E.type == HANDED_OUT)
    wrong = (_S.id == MAIN) != _S.order_seq.is_(None)
    lost = sa.select(_S.job, _S.id).where(wrong | (_S.order_seq.is_not(None) & ~ordered))
    for job, part in connection.execute(lost):
        yield Problem(job, f"its segment {part} has no event that says what it executes")
    side = schema.segment.alias()
    open_side = sa.exists().where(side.c.job == _S.job, side.c.id != MAIN, side.c.state.in_(_OPEN_SEGMENT))
    waits = (_S.id == MAIN) & (_S.state == "waiting") & _S.ready_at.is_(None)
    joined = schema.segment.join(schema.job, _J.id == _S.job)
    stuck = sa.select(_S.job).select_from(joined).where(waits, _J.state == "running", ~open_side)
    for job in connection.execute(stuck).scalars():
        yield Problem(job, "its main segment waits for side segments, of which none is open")


def _holders(connection: sa.Connection) -> Iterator[Problem]:
    """A segment runs where somebody holds it, and who holds one is known: else it would never be taken from them."""
    running = _S.state == "running"
    unknown = _S.holder.not_in(sa.select(schema.process.c.id))
    wrong = sa.or_(running != _S.holder.is_not(None), sa.and_(_S.holder.is_not(None), unknown))
    for job, part, state, holder in connection.execute(sa.select(_S.job, _S.id, _S.state, _S.holder).where(wrong)):
        yield Problem(job, f"its segment {part} is {state}, held by {holder or 'nobody'}, which is not a process")


def _graphs(connection: sa.Connection) -> Iterator[Problem]:
    """The graph of each job is there."""
    asked = sa.select(_J.id, _J.graph).where(_J.graph.not_in(sa.select(schema.graph.c.digest)))
    for job, digest in connection.execute(asked):
        yield Problem(job, f"its graph {digest} is gone")


def _references(connection: sa.Connection) -> Iterator[Problem]:
    """What a job refers to, it uses: else it would be swept."""
    events = sa.select(_E.job, _E.seq, _E.data).where(_E.data.is_not(None))
    jobs = sa.select(_J.id, _J.inputs, _J.bindings, _J.result)
    used: set[tuple[str, str]] = {(job, digest) for job, digest in connection.execute(sa.select(_U.job, _U.digest))}
    for job, seq, data in _pages(connection, events, _E.job, _E.seq):
        for reference in references(data):
            if (job, reference.digest) not in used:
                yield Problem(job, f"its event {seq} refers to the large value {reference.digest}, not noted as used")
    for job, *written in _pages(connection, jobs, _J.id):
        for raw in filter(None, written):
            for reference in references(raw):
                if (job, reference.digest) not in used:
                    yield Problem(job, f"it refers to the large value {reference.digest}, not noted as used")


def _pages(connection: sa.Connection, asked: sa.Select[Any], *key: sa.ColumnElement[Any]) -> Iterator[Any]:
    """Yield all rows, a bounded number at a time; the key's columns come first in each row."""
    ordered = asked.order_by(*key).limit(_PAGE)
    rows = connection.execute(ordered).all()
    while rows:
        yield from rows
        last = rows[-1][: len(key)]
        rows = connection.execute(ordered.where(sa.tuple_(*key) > sa.tuple_(*map(sa.literal, last)))).all()
