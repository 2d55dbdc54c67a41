"""Puts together what clients, tasks and the database saw of a round."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from millstream.model.event import Event
from millstream.model.failure import Failure
from millstream.model.value import decode_shown
from millstream.testing.history import Died, Dump, EventRow, History, JobRow, LeftOver, ObservationLog, digest, merge
from tests.chaos.client import digest_of
from tests.chaos.load import MARK, FlakyError
from tests.chaos.witness import Witness


def history(witness: Witness, logs: Iterable[Path], digested: Callable[[Event], str] = digest_of) -> History:
    """Return everything that was seen of a round that has come to rest.

    Args:
        witness: Looks into the ledger.
        logs: What clients, tasks and crash points wrote.
        digested: Makes of an event the digest that readers logged of it.
    """
    seen = merge(*(ObservationLog(path).read() for path in logs))
    killed = {one.pid for one in seen if isinstance(one, Died)}
    left = LeftOver(what="memberships", count=sum(pid not in killed for pid in witness.members()))
    dump = Dump(
        jobs=tuple(_jobs(witness)),
        events=tuple(_events(witness, digested)),
        claims=witness.claims(),
        segments=witness.segments(),
        changes=witness.changes(),
    )
    return History((*seen, left), dump)


def _jobs(witness: Witness) -> Iterable[JobRow]:
    query = "SELECT id, state, next_seq, cancel_requested, idempotency_key, result FROM millstream_job"
    for job_id, state, next_seq, cancel_requested, key, result in witness.rows(query):
        yield JobRow(
            id=job_id,
            state=state,
            next_seq=next_seq,
            cancel_requested=bool(cancel_requested),
            key=key,
            result=digest(decode_shown(result)["value"]) if state == "succeeded" else None,
        )


def _events(witness: Witness, digested: Callable[[Event], str]) -> Iterable[EventRow]:
    for job, seq, kind, at, node, raw in witness.rows("SELECT job, seq, type, at, node, data FROM millstream_event"):
        event = Event(seq, 0, kind, at, node, None if raw is None else decode_shown(raw))
        data: dict[str, Any] = event.data or {}
        yield EventRow(
            job=job,
            seq=seq,
            type=kind,
            node=node,
            attempt=data.get("attempt"),
            mark=_mark(data),
            state=data.get("state"),
            segment=data.get("segment"),
            nodes=tuple(given["path"] for given in data["nodes"]) if kind == "handed_out" else (),
            digest=digested(event),
        )


def _mark(data: dict[str, Any]) -> str | None:
    """Return the mark of the effect that an event tells of: a task returns it, or raises it."""
    match data:
        case {"value": str(mark)} if MARK.fullmatch(mark):
            return mark
        case {"error": Failure(message=str(mark), type=kind)} if kind.endswith(FlakyError.__name__):
            return mark
    return None
