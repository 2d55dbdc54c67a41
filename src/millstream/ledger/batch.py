"""One transaction for many items: reads where their jobs stand, decides in memory, and writes what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from msgspec.structs import replace

from millstream.errors import JobNotFoundError
from millstream.ledger import schema
from millstream.ledger.base import (
    ENDS,
    Claim,
    FencedError,
    Pause,
    Settlement,
    alias_conflict,
    awaited,
)
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import CollisionError, Connection
from millstream.ledger.holds import Holds, Key, key_of
from millstream.ledger.items import Change, Item, Record, Submit
from millstream.ledger.queries import Queries
from millstream.ledger.rows import EVENT_COLUMNS, NEW_JOB_COLUMNS, event_row
from millstream.ledger.standing import Part, Standing
from millstream.ledger.statements import Rows
from millstream.model.event import TERMINAL, Draft
from millstream.model.job import JobState
from millstream.model.value import decode_shown, encode

_J, _S = schema.job.c, schema.segment.c
_SEGMENT_COLUMNS = tuple(schema.segment.c)
_CLAIM_COLUMNS = tuple(schema.claim.c)
_ALIAS_COLUMNS = tuple(schema.alias.c)
_CHANGED_JOB = (
    _J.state,
    _J.reason,
    _J.cancel_requested,
    _J.next_seq,
    _J.ended_at,
    _J.result,
    _J.error,
)
_CHANGED_SEGMENT = (_S.state, _S.holder, _S.ready_at)
_ALIASES_AT_ONCE = 1000
_NOTHING: tuple[set[str | None], set[str | None]] = (set(), set())
_STATE, _STARTED, _KEY = (NEW_JOB_COLUMNS.index(column) for column in (_J.state, _J.started_at, _J.idempotency_key))


class Tools:
    """What every batch of a ledger is made with.

    Args:
        queries: What is asked.
        rows: How many rows are written.
        blobs: Where large values go.
        holds: What is known of the segments that are held here.
    """

    __slots__ = ("blobs", "holds", "queries", "rows")

    def __init__(self, queries: Queries, rows: Rows, blobs: Blobs, holds: Holds) -> None:
        """Take the parts."""
        self.queries = queries
        self.rows = rows
        self.blobs = blobs
        self.holds = holds


class Batch:
    """The items of one transaction.

    Args:
        connection: Where, in a transaction.
        tools: With what.
    """

    def __init__(self, connection: Connection, tools: Tools) -> None:
        """Begin with nothing read."""
        self._connection = connection
        self._tools = tools
        self._jobs: dict[str, Standing] = {}
        self._known_keys: dict[str, Sequence[Any]] = {}
        self._aliases: dict[str, str] = {}
        self._alive: set[str] = set()
        self._events: list[tuple[Any, ...]] = []
        self._claims: list[tuple[Any, ...]] = []
        self._new_jobs: list[Submit] = []
        self._new_segments: list[tuple[Any, ...]] = []
        self._asked: list[Change] = []
        self._ended: dict[Key, tuple[set[str | None], set[str | None]]] = {}
        self._over: list[Key] = []

    def write(self, items: Sequence[Item]) -> None:
        """Give each item its outcome, and write what it takes; the caller commits.

        Raises:
            CollisionError: Another transaction took an idempotency key or an alias in between.
        """
        self._read(items)
        for item in items:
            match item:
                case Record():
                    self._record(item)
                case Submit():
                    self._submit(item)
                case Change():
                    self._change(item)
        self._flush()

    # ------------------------------------------------------------------------------------------------------ reading
    def _read(self, items: Sequence[Item]) -> None:
        queries, connection = self._tools.queries, self._connection
        holders = {item.claim_for for item in items if isinstance(item, Submit) and item.claim_for is not None}
        if holders:
            self._alive = {row[0] for row in queries.among(connection, "alive", sorted(holders))}
        ids = {item.claim.job.id for item in items if isinstance(item, Record)}
        ids |= {item.job_id for item in items if isinstance(item, Change)}
        known = sorted(ids)
        if not queries.is_sqlite:
            queries.among(connection, "locked", known)
        for row in queries.at_once(connection, "standing", known):
            standing = self._jobs.get(row[0])
            if standing is None:
                standing = self._jobs[row[0]] = Standing(row)
            standing.segments[row[5]] = Part(*row[6:])
        keys = {item.new.job.idempotency_key for item in items if isinstance(item, Submit)} - {None}
        for row in queries.among(connection, "by_key", sorted(key for key in keys if key is not None)):
            self._known_keys[row[_KEY]] = row
        aliases = sorted({name for item in items if isinstance(item, Submit) for name in item.new.aliases})
        for start in range(0, len(aliases), _ALIASES_AT_ONCE):
            for name, job_id, _ in queries.among(connection, "aliases", aliases[start : start + _ALIASES_AT_ONCE]):
                self._aliases[name] = job_id
        self._read_ended([item.claim for item in items if isinstance(item, Record) and _ends_nodes(item)])

    def _read_ended(self, claims: Sequence[Claim]) -> None:
        """Find out which nodes have ended of the segments whose records end some."""
        missing = {}
        for claim in claims:
            key = key_of(claim)
            known = self._tools.holds.ended(claim)
            if known is None and claim.job.id in self._jobs:
                missing[claim.job.id] = key
            if key not in self._ended:
                self._ended[key] = (set() if known is None else known), set()
        for job_id, node in self._tools.queries.at_once(self._connection, "ended_nodes", sorted(missing)):
            self._ended[missing[job_id]][0].add(node)

    # ------------------------------------------------------------------------------------------------------ records
    def _record(self, item: Record) -> None:
        claim = item.claim
        job = self._jobs.get(claim.job.id)
        part = job.segments.get(claim.segment) if job is not None else None
        if job is None or part is None or (part.attempt, part.holder) != (claim.attempt, claim.holder):
            self._over.append(key_of(claim))
            item.refuse(
                FencedError(f"job {claim.job.id} is no longer held by {claim.holder} (attempt {claim.attempt})")
            )
            return
        first = job.next_seq
        kept = self._take(item, job)
        match item.end:
            case Settlement() as end:
                told = {"state": end.state.value, "reason": end.reason}
                kept.append((True, TERMINAL, item.now, None, told))
                self._add(claim.job.id, job, kept[-1], encode(told))
                job.settle(end.state, end.reason, item.now)
                job.values = item.values
                self._over.append(key_of(claim))
            case Pause() as pause:
                job.pause(part, pause, has_news=first > pause.seen + 1)
                self._over.append(key_of(claim))
        self._put_large(claim.job.id, item)
        item.outcome = first, kept

    def _put_large(self, job_id: str, item: Item) -> None:
        if item.large:
            self._tools.blobs.put(self._connection.raw, job_id, item.large)

    def _take(self, item: Record, job: Standing) -> list[Draft]:
        """Number the drafts that count, and return them."""
        job_id = item.claim.job.id
        known, fresh = self._ended.get(key_of(item.claim), _NOTHING)
        kept = []
        for draft, data in zip(item.drafts, item.data, strict=True):
            if draft[1] in ENDS:
                if draft[3] in known or draft[3] in fresh:
                    continue
                fresh.add(draft[3])
            kept.append(draft)
            if draft[0]:
                self._add(job_id, job, draft, data)
        return kept

    def _add(self, job_id: str, job: Standing, draft: Draft, data: bytes | None) -> None:
        self._events.append(event_row(job_id, job.next_seq, draft, data))
        job.next_seq += 1

    # -------------------------------------------------------------------------------------------- answers and cancels
    def _change(self, item: Change) -> None:
        job = self._jobs.get(item.job_id)
        if job is None:
            item.refuse(JobNotFoundError(f"there is no job {item.job_id!r}"))
        elif item.node is not None:
            item.outcome = self._answer(item, item.node, job)
        else:
            item.outcome = self._cancel(item, job)
            self._asked.append(item)

    def _answer(self, item: Change, node: str, job: Standing) -> int | None:
        if job.is_final or awaited(self._facts(item.job_id), node) is None:
            return None
        first: int = job.next_seq
        for draft, data in zip(item.drafts, item.data, strict=True):
            self._add(item.job_id, job, draft, data)
        self._put_large(item.job_id, item)
        job.wake()
        return first

    def _facts(self, job_id: str) -> Iterable[tuple[str, str | None, Any]]:
        rows = self._tools.queries.among(self._connection, "facts", [job_id])
        rows += [(job, kind, node, data) for job, _, kind, _, node, data in self._events if job == job_id]
        return [(kind, node, decode_shown(data) if kind == "waiting" else None) for _, kind, node, data in rows]

    def _cancel(self, item: Change, job: Standing) -> int | None:
        if job.is_final:
            return None
        job.cancel = job.is_moved = True
        if job.is_held:
            return None
        first: int = job.next_seq
        for draft, data in zip(item.drafts, item.data, strict=True):
            self._add(item.job_id, job, draft, data)
        job.settle(JobState.CANCELLED, "cancel", item.now)
        return first

    # ------------------------------------------------------------------------------------------------------ submits
    def _submit(self, item: Submit) -> None:
        new, job = item.new, item.new.job
        if job.idempotency_key is not None:
            known = self._known_keys.get(job.idempotency_key)
            if known is not None:
                item.outcome = known, None
                return
        if new.aliases and not self._take_aliases(item):
            return
        if job.idempotency_key is not None:
            self._known_keys[job.idempotency_key] = new.known_row()
        claim = self._first_claim(item)
        self._new_segments.append(new.segment_row(claim.holder if claim else None))
        self._events += new.event_rows()
        if claim is not None:
            self._claims.append((job.id, 1, 1, claim.holder, item.now))
            self._ended[job.id, 1, 1] = set(), {draft[3] for draft in new.drafts if draft[1] in ENDS}
        self._new_jobs.append(item)
        item.outcome = (job if claim is None else claim.job), claim

    def _take_aliases(self, item: Submit) -> bool:
        """Give a job its aliases; it is refused where another one has one of them."""
        for name in item.new.aliases:
            owner = self._aliases.get(name)
            if owner is not None:
                item.refuse(alias_conflict(name, owner))
                return False
        self._aliases.update(dict.fromkeys(item.new.aliases, item.new.job.id))
        return True

    def _first_claim(self, item: Submit) -> Claim | None:
        job = item.new.job
        if item.claim_for not in self._alive or job.state is JobState.SCHEDULED:
            return None
        running = replace(job, state=JobState.RUNNING, started_at=item.now)
        return Claim(running, 1, 1, item.claim_for or "", len(item.new.drafts))

    # ------------------------------------------------------------------------------------------------------ writing
    def _flush(self) -> None:
        connection, insert = self._connection, self._tools.rows.insert
        if self._new_jobs:
            self._insert_jobs()
        insert(connection, EVENT_COLUMNS, self._events)
        insert(connection, _SEGMENT_COLUMNS, self._new_segments)
        insert(connection, _CLAIM_COLUMNS, self._claims)
        self._update()
        if self._asked:
            self._answer_cancels()

    def _insert_jobs(self) -> None:
        connection, insert = self._connection, self._tools.rows.insert
        graphs = sorted({item.new.job.graph: item.new.graph for item in self._new_jobs}.items())
        insert(connection, tuple(schema.graph.c), graphs, "ON CONFLICT DO NOTHING")
        new = sorted(self._new_jobs, key=lambda item: item.new.job.idempotency_key or "")
        rows = [_claimed(item.new.row, item.outcome[1]) for item in new]
        aliases = sorted(row for item in new for row in item.new.alias_rows())
        may_meet_others = bool(aliases) or any(item.new.job.idempotency_key is not None for item in new)
        with self._tools.queries.short_of_patience(connection) if may_meet_others else nullcontext():
            count = insert(connection, NEW_JOB_COLUMNS, rows, "ON CONFLICT DO NOTHING")
            count += insert(connection, _ALIAS_COLUMNS, aliases, "ON CONFLICT DO NOTHING")
        if count < len(rows) + len(aliases):
            raise CollisionError("another submission took the idempotency key or an alias meanwhile")
        for item in new:
            self._put_large(item.new.job.id, item)

    def _update(self) -> None:
        update, connection = self._tools.rows.update, self._connection
        moved = {job_id: job for job_id, job in self._jobs.items() if job.is_moved}
        numbers = [
            (job_id, job.next_seq) for job_id, job in self._jobs.items() if not job.is_moved and job.next_seq > job.was
        ]
        update(connection, (_J.id,), (_J.next_seq,), numbers)
        if not moved:
            return
        rows = [
            (job_id, job.state, job.reason, job.cancel, job.next_seq, job.ended_at, *job.values)
            for job_id, job in moved.items()
        ]
        update(connection, (_J.id,), _CHANGED_JOB, rows)
        parts = [
            (job_id, number, part.state, part.holder, part.ready_at)
            for job_id, job in moved.items()
            for number, part in job.segments.items()
            if part.is_moved
        ]
        update(connection, (_S.job, _S.id), _CHANGED_SEGMENT, parts)

    def _answer_cancels(self) -> None:
        rows = self._tools.queries.among(self._connection, "jobs", sorted({item.job_id for item in self._asked}))
        jobs = {row[0]: row for row in rows}
        for item in self._asked:
            item.outcome = jobs[item.job_id], item.outcome

    def keep(self) -> None:
        """Take note of what is known of held segments, now that the transaction is committed."""
        holds = self._tools.holds
        for key, (known, fresh) in self._ended.items():
            holds.keep(key, known, fresh)
        for key in self._over:
            holds.drop(key)


def _ends_nodes(item: Record) -> bool:
    return any(draft[1] in ENDS for draft in item.drafts)


def _claimed(row: tuple[Any, ...], claim: Claim | None) -> tuple[Any, ...]:
    """Return a new job's row, as running where it was claimed in the same breath."""
    if claim is None:
        return row
    return (
        *row[:_STATE],
        claim.job.state.value,
        *row[_STATE + 1 : _STARTED],
        claim.job.started_at,
        *row[_STARTED + 1 :],
    )
