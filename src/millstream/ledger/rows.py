"""Jobs and events as rows: what stands in which column, and how it is read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from millstream.errors import DefinitionError, MillstreamError
from millstream.ledger import schema
from millstream.ledger.aliases import key_conflict
from millstream.ledger.base import MAIN, JobGraph
from millstream.model.event import Draft, Event
from millstream.model.graph import Graph
from millstream.model.job import JobRecord, JobState
from millstream.model.names import claim_key
from millstream.model.value import Sealed, decode, decode_shown, encode, references, seal_data

Load = Callable[[str], bytes]
"""Returns the large value that has a digest."""

_J = schema.job.c
JOB_COLUMNS: Final[tuple[sa.Column[Any], ...]] = (
    _J.id,
    _J.flow,
    _J.version,
    _J.graph,
    _J.state,
    _J.reason,
    _J.cancel_requested,
    _J.priority,
    _J.durability,
    _J.created_at,
    _J.started_at,
    _J.ended_at,
    _J.starts_at,
    _J.expires_at,
    _J.idempotency_key,
    _J.parent,
    _J.queue,
    _J.owner,
    _J.is_interactive,
    _J.inputs,
    _J.result,
    _J.error,
)
"""What a job's record is read from, in the order in which `job_record` takes it."""

NEW_JOB_COLUMNS: Final[tuple[sa.Column[Any], ...]] = (*JOB_COLUMNS[:-2], _J.next_seq, _J.bindings)
"""What is written of a new job."""

EVENT_COLUMNS: Final[tuple[sa.Column[Any], ...]] = tuple(schema.event.c)

_VALUE = "value"
_OWN = ":"
_INPUTS = JOB_COLUMNS.index(_J.inputs)


class Written(msgspec.Struct, frozen=True):
    """Values in the form in which they are recorded.

    Attributes:
        raw: What stands in the row; `None` for no value at all.
        apart: What is too large for it, by digest.
    """

    raw: bytes | None
    apart: dict[str, bytes]


def write_value(value: Any) -> Written:
    """Write down one value.

    Raises:
        NotSerializableError: It cannot be written down.
    """
    sealed, apart = seal_data({_VALUE: value})
    return Written(sealed.raw, apart)


def write_inputs(inputs: dict[str, Any], max_bytes: int) -> Written:
    """Write down a job's inputs by name.

    Raises:
        NotSerializableError: One cannot be written down.
        OutputTooLargeError: They have more than `max_bytes`.
    """
    sealed, apart = seal_data(inputs, max_bytes=max_bytes)
    return Written(sealed.raw, apart)


def write_bindings(graph: JobGraph, max_bytes: int) -> Written:
    """Write down the values of a graph's slots; raises as `write_inputs`."""
    sealed, apart = seal_data({str(slot): value for slot, value in enumerate(graph.bindings)}, max_bytes=max_bytes)
    return Written(sealed.raw, apart)


def read_bindings(raw: bytes, load: Load) -> list[Any]:
    """Return the values of a graph's slots."""
    return list(decode(raw, load).values())


@lru_cache(maxsize=256)
def write_graph(graph: Graph) -> bytes:
    """Write down a graph."""
    return msgspec.json.encode(graph)


@lru_cache(maxsize=256)
def read_graph(raw: bytes) -> Graph:
    """Return a graph that was written down."""
    return msgspec.json.decode(raw, type=Graph)


def read_aliases(raw: str | None) -> dict[str, str]:
    """Return a job's aliases, which a query has collected as JSON."""
    return {} if raw is None else msgspec.json.decode(raw, type=dict[str, str])


def write_draft(data: Any) -> bytes | None:
    """Write down the data of an event."""
    if data is None:
        return None
    return data.raw if type(data) is Sealed else encode(data)


def digests_in(raw: bytes) -> list[str]:
    """Return the digests of the large values that belong to a sealed event."""
    return [reference.digest for reference in references(raw)]


class NewJob(msgspec.Struct, frozen=True):
    """A job that is to be submitted, written down.

    Attributes:
        job: The job.
        row: Its row, by `NEW_JOB_COLUMNS`.
        graph: Its graph.
        drafts: Its first events.
        data: Their data.
        large: Values too large for their rows, by digest.
        aliases: Its aliases, with the nodes that they stand for.
    """

    job: JobRecord
    row: tuple[Any, ...]
    graph: bytes
    drafts: Sequence[Draft]
    data: Sequence[bytes | None]
    large: dict[str, bytes]
    aliases: Mapping[str, str]

    def segment_row(self, holder: str | None) -> tuple[Any, ...]:
        """Return the row of its first segment, by the columns of its table."""
        job, is_scheduled = self.job, self.job.state is JobState.SCHEDULED
        state = "running" if holder else "waiting" if is_scheduled else "queued"
        ready_at = (job.starts_at or 0.0) if is_scheduled else None
        attempt = 1 if holder else 0
        return job.id, MAIN, state, attempt, holder, 0, job.priority, claim_key(job.flow), ready_at, job.queue, None

    def known_row(self) -> tuple[Any, ...]:
        """Return its row by `JOB_COLUMNS`, as it is when nothing has happened yet."""
        return *self.row[:-2], None, None

    def alias_rows(self) -> list[tuple[str, str, str]]:
        """Return the rows of its aliases, by the columns of their table."""
        return [(name, self.job.id, node) for name, node in self.aliases.items()]

    def event_rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of its first events."""
        numbered = enumerate(zip(self.drafts, self.data, strict=True), 1)
        return [event_row(self.job.id, seq, draft, data) for seq, (draft, data) in numbered]


def is_text(text: str) -> bool:
    """Return whether a database can take a text: PostgreSQL takes no NUL, and none takes half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def write_job(
    job: JobRecord, graph: JobGraph, drafts: Sequence[Draft], large: dict[str, bytes], max_bytes: int
) -> NewJob:
    """Write down a job that is to be submitted.

    Args:
        job: The job.
        graph: What it executes.
        drafts: Its first events.
        large: Values that were sealed for it, too large for their rows.
        max_bytes: What its inputs may have.

    Raises:
        DefinitionError: The idempotency key, an alias, the queue or the owner is no text that a database takes.
        NotSerializableError: An input or binding cannot be written down.
        OutputTooLargeError: They have more than `max_bytes`.
    """
    if not is_text(job.idempotency_key or ""):
        raise DefinitionError(f"the idempotency key {job.idempotency_key!r} has characters that no database takes")
    if not is_text(job.queue or ""):
        raise DefinitionError(f"the queue {job.queue!r} has characters that no database takes")
    if not is_text(job.owner or ""):
        raise DefinitionError(f"the owner {job.owner!r} has characters that no database takes")
    for alias in graph.aliases:
        if not is_text(alias):
            raise DefinitionError(f"the alias {alias!r} has characters that no database takes")
    inputs, bindings = write_inputs(job.inputs, max_bytes), write_bindings(graph, max_bytes)
    row = (
        job.id,
        job.flow,
        job.version,
        job.graph,
        job.state.value,
        job.reason,
        job.cancel_requested,
        job.priority,
        job.durability,
        job.created_at,
        job.started_at,
        None,
        job.starts_at,
        job.expires_at,
        job.idempotency_key,
        job.parent,
        job.queue,
        job.owner,
        job.is_interactive,
        inputs.raw,
        len(drafts) + 1,
        bindings.raw,
    )
    data = [write_draft(draft[4]) for draft in drafts]
    large = {**inputs.apart, **bindings.apart, **large}
    return NewJob(job, row, write_graph(graph.graph), drafts, data, large, graph.aliases)


def own_graph(job: JobRecord) -> str:
    """Return the key of a graph that is kept for one job alone."""
    return f"{job.graph}{_OWN}{job.id}"


def is_own(graph: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return what holds for the keys of graphs that are kept for one job alone."""
    return graph.contains(_OWN)


def check_same(new: NewJob, row: Sequence[Any], known: JobRecord) -> JobRecord:
    """Return the job that has an idempotency key already.

    Raises:
        IdempotencyConflictError: It was made with another flow or other inputs, or for another owner.
    """
    job = new.job
    is_same = row[_INPUTS] == new.row[_INPUTS] or known.inputs == job.inputs
    if (known.flow, known.owner) == (job.flow, job.owner) and is_same:
        return known
    raise key_conflict(job, known)


def job_record(row: Sequence[Any], load: Load | None) -> JobRecord:
    """Return the job of a row; without `load` its values are as they are shown, and no class is needed to read them.

    Raises:
        NotSerializableError: A value's class is not to be found here.
    """
    *plain, inputs, result, error = row
    job_id, flow, version, graph, state, reason, cancel, priority, durability, *times_and_whose = plain
    *times, key, parent, queue, owner, is_interactive = times_and_whose
    created_at, started_at, ended_at, starts_at, expires_at = times

    def value(raw: bytes) -> Any:
        return decode_shown(raw) if load is None else decode(raw, load)

    return JobRecord(
        id=job_id,
        flow=flow,
        version=version,
        graph=graph.partition(_OWN)[0],
        state=JobState(state),
        reason=reason,
        cancel_requested=bool(cancel),
        priority=priority,
        durability=durability,
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        starts_at=starts_at,
        expires_at=expires_at,
        idempotency_key=key,
        parent=parent,
        queue=queue,
        owner=owner,
        is_interactive=bool(is_interactive),
        inputs=value(inputs),
        result=None if result is None else value(result)[_VALUE],
        error=None if error is None else decode_shown(error),
    )


def job_record_or_shown(row: Sequence[Any], load: Load) -> JobRecord:
    """Return the job of a row, with its values as they are shown where a class or their content is not to be found."""
    try:
        return job_record(row, load)
    except MillstreamError:
        return job_record(row, None)


def shown_event(row: Sequence[Any]) -> Event:
    """Return an event as it is shown, from (seq, type, at, node, data)."""
    seq, kind, at, node, data = row
    return Event(seq, 0, kind, at, node, None if data is None else decode_shown(data))


def whole_event(row: Sequence[Any], load: Load) -> Event:
    """Return an event with its values whole, from (seq, type, at, node, data)."""
    seq, kind, at, node, data = row
    return Event(seq, 0, kind, at, node, None if data is None else decode(data, load))


def event_row(job_id: str, seq: int, draft: Draft, data: bytes | None) -> tuple[Any, ...]:
    """Return the row of an event."""
    return job_id, seq, draft[1], draft[2], draft[3], data
