"""One transaction for many items: reads where their jobs stand, decides in memory, and writes what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from msgspec.structs import replace

from millstream.errors import JobNotFoundError
from millstream.ledger import schema
from millstream.ledger.aliases import alias_conflict
from millstream.ledger.base import MAIN, Claim, Done, Pause, Settlement
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import CollisionError, Connection
from millstream.ledger.facts import ENDS, awaited
from millstream.ledger.fence import fenced
from millstream.ledger.holds import Ended, Holds, Key, key_of
from millstream.ledger.items import Change, Item, Record, Submit
from millstream.ledger.queries import Queries
from millstream.ledger.rows import EVENT_COLUMNS, NEW_JOB_COLUMNS, event_row
from millstream.ledger.sides import HANDED_OUT, SIDES, TAKEN_BACK, named
from millstream.ledger.standing import Standing, standing_of
from millstream.ledger.statements import Rows
from millstream.model.event import TERMINAL, Draft
from millstream.model.job import JobState
from millstream.model.names import claim_key
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
_NOTHING: tuple[Ended, set[str | None]] = (Ended(), set())
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
        self._ended: dict[str, tuple[Ended, set[str | None]]] = {}
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
            queries.among(connection, "locked_sides", sorted(_jobs_moved(items)))
        self._jobs = standing_of(queries.at_once(connection, "standing", known))
        keys = {item.new.job.idempotency_key for item in items if isinstance(item, Submit)} - {None}
        for row in queries.among(connection, "by_key", sorted(key for key in keys if key is not None)):
            self._known_keys[row[_KEY]] = row
        aliases = sorted({name for item in items if isinstance(item, Submit) for name in item.new.aliases})
        for start in range(0, len(aliases), _ALIASES_AT_ONCE):
            for name, job_id, _ in queries.among(connection, "aliases", aliases[start : start + _ALIASES_AT_ONCE]):
                self._aliases[name] = job_id
        self._read_ended([item.claim for item in items if isinstance(item, Record) and _ends_nodes(item)])

    def _read_ended(self, claims: Sequence[Claim]) -> None:
        """Find out which nodes have ended of the jobs of which some end now: all of them once, then what others end."""
        missing, queries = set(), self._tools.queries
        for claim in claims:
            job_id = claim.job.id
            if job_id not in self._ended:
                ended = self._tools.holds.ended(job_id) or Ended()
                self._ended[job_id] = ended, set()
                if not ended.until:
                    missing.add(job_id)
                elif job_id in self._jobs and ended.until < self._jobs[job_id].next_seq - 1:
                    ends = queries.ends_after
                    rows = self._connection.run(ends.sql, ends.fill(id=job_id, after=ended.until))
                    self._ended[job_id][1].update(row[0] for row in rows)
            self._ended[job_id][0].claims.add(key_of(claim))
        for job_id, node in queries.at_once(self._connection, "ended_nodes", sorted(missing & self._jobs.keys())):
            self._ended[job_id][1].add(node)

    # ------------------------------------------------------------------------------------------------------ records
    def _record(self, item: Record) -> None:
        claim = item.claim
        job = self._jobs.get(claim.job.id)
        part = job.segments.get(claim.segment) if job is not None else None
        if job is None or part is None or (part.attempt, part.holder) != (claim.attempt, claim.holder):
            self._over.append(key_of(claim))
            item.refuse(fenced(claim))
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
                if claim.segment == MAIN:
                    job.pause(part, pause, has_news=first > pause.seen + 1)
                else:
                    job.pause_side(part, pause, has_news=self._is_answered(claim.job.id, pause.seen))
                self._over.append(key_of(claim))
            case Done() as end:
                job.end_side(part, cancels=end.cancels)
                self._over.append(key_of(claim))
        self._put_large(claim.job.id, item)
        item.outcome = first, kept

    def _put_large(self, job_id: str, item: Item) -> None:
        if item.large:
            self._tools.blobs.put(self._connection.raw, job_id, item.large)

    def _take(self, item: Record, job: Standing) -> list[Draft]:
        """Number the drafts that count, and return them."""
        job_id = item.claim.job.id
        known, fresh = self._ended.get(job_id, _NOTHING)
        kept = []
        for draft, data in zip(item.drafts, item.data, strict=True):
            if draft[1] in ENDS:
                if draft[3] in known.nodes or draft[3] in fresh:
                    continue
                fresh.add(draft[3])
            elif draft[1] in SIDES and item.claim.segment == MAIN:
                self._move_side(item.claim, job, draft)
            kept.append(draft)
            if draft[0]:
                self._add(job_id, job, draft, data)
        return kept

    def _move_side(self, claim: Claim, job: Standing, draft: Draft) -> None:
        """Make a side segment, or end one."""
        number, queue = named(draft)
        job.check_side(set(job.segments), number, is_new=draft[1] == HANDED_OUT)
        if draft[1] == TAKEN_BACK:
            job.take_back(number)
            return
        side, of = job.hand_out(number), claim.job
        row = of.id, number, side.state, 0, None, 0, of.priority, claim_key(of.flow), None, queue, job.next_seq
        self._new_segments.append(row)
        side.is_moved = False

    def _is_answered(self, job_id: str, seen: int) -> bool:
        """Return whether somebody answered a wait after an event that a side segment knows."""
        answers = self._tools.queries.answers_after
        if self._connection.run(answers.sql, answers.fill(id=job_id, after=seen)):
            return True
        return any(row[0] == job_id and row[2] == "answered" for row in self._events)

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
        if job.is_held:
            job.ask_to_stop()
            return None
        job.cancel = True
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
            self._claims.append((job.id, MAIN, 1, claim.holder, item.now))
            ended = Ended(len(new.drafts))
            ended.claims.add(key_of(claim))
            self._ended[job.id] = ended, {draft[3] for draft in new.drafts if draft[1] in ENDS}
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
        return Claim(running, MAIN, 1, item.claim_for or "", len(item.new.drafts), queue=job.queue)

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
        rows = [
            (job_id, job.state, job.reason, job.cancel, job.next_seq, job.ended_at, *job.values)
            for job_id, job in moved.items()
        ]
        update(connection, (_J.id,), _CHANGED_JOB, rows)
        parts = [
            (job_id, number, part.state, part.holder, part.ready_at)
            for job_id, job in self._jobs.items()
            if job.has_moved_parts
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
        for job_id, job in self._jobs.items():
            if job_id not in self._ended:
                holds.follow(job_id, job.was - 1, job.next_seq - 1)
        for job_id, (ended, fresh) in self._ended.items():
            standing = self._jobs.get(job_id)
            holds.keep(job_id, ended, fresh, ended.until if standing is None else standing.next_seq - 1)
        for key in self._over:
            holds.drop(key)


def _ends_nodes(item: Record) -> bool:
    return any(draft[1] in ENDS for draft in item.drafts)


def _jobs_moved(items: Sequence[Item]) -> set[str]:
    """Return the ids of the jobs whose other segments may be moved, whoever holds them."""
    return {item.job_id for item in items if isinstance(item, Change)} | {
        item.claim.job.id
        for item in items
        if isinstance(item, Record) and isinstance(item.end, Done) and item.end.cancels
    }


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
