"""The ledger in a database: SQLite or PostgreSQL, shared by processes, outliving each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from millstream import points
from millstream.clock import Clock
from millstream.errors import DefinitionError, MillstreamError
from millstream.ledger import within
from millstream.ledger.ahead import Ahead, may_begin, may_go_on
from millstream.ledger.apart import Apart
from millstream.ledger.asking import Asking
from millstream.ledger.base import Claim, End, Held, JobGraph, Pause, Recorded, Settlement
from millstream.ledger.claims import wanted_of
from millstream.ledger.database import Database, database
from millstream.ledger.filter import Filter
from millstream.ledger.fork import call_in_child
from millstream.ledger.identity import Identity
from millstream.ledger.items import Change, Record, Submit
from millstream.ledger.listing import listing
from millstream.ledger.lookups import check_id
from millstream.ledger.members import Proof, on_loop
from millstream.ledger.parts import Parts
from millstream.ledger.presence import Presence
from millstream.ledger.queued import Queued
from millstream.ledger.rows import (
    NewJob,
    Written,
    check_same,
    is_text,
    job_record,
    job_record_or_shown,
    write_draft,
    write_job,
    write_value,
)
from millstream.ledger.sql_accounts import SqlAccounts
from millstream.ledger.sql_activity import SqlActivity
from millstream.ledger.sql_flow_store import SqlFlowStore
from millstream.model.event import Draft, Event
from millstream.model.job import JobRecord, NodeResult
from millstream.model.value import encode, seal_data

T = TypeVar("T")

MAX_VALUE_BYTES = 64 << 20
_CLOSING_SECONDS = 2.0
"""How long what is recorded waits for room, or for the database, when the ledger is about to be closed."""


class SqlLedger:
    """Keeps everything in a database; see `Ledger` and `SharedLedger` for what its methods promise.

    Nothing is opened before it is needed.

    Args:
        url: Names the database: `sqlite:///ledger.db` or `postgresql://…`.
        clock: Gives the times of submissions, claims and ends; leases go by the database's own clock.
        lease_seconds: How long a member may be silent before the others take it for dead.
        retention: How long ended jobs are kept; for ever without.
        max_value_bytes: What the inputs of a job, or the result of a node, may have.
        proof: Proves deaths without waiting for leases, where all members can see it.

    Attributes:
        database: Where it is.
        accounts: The users, and what they sign in with.
        flow_store: The users' flows.
        activity: Who looks at interactive jobs.

    Raises:
        SettingsError: The URL names no database that a ledger can live in.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        lease_seconds: float = 15.0,
        retention: timedelta | None = None,
        max_value_bytes: int = MAX_VALUE_BYTES,
        proof: Proof | None = None,
    ) -> None:
        """Open nothing yet."""
        self.database: Database = database(url)
        self._clock = clock
        self._retention = retention
        self._max_value_bytes = max_value_bytes
        self._make_parts = partial(Parts, self.database, lease_seconds, proof)
        self._parts = self._make_parts()
        self._before_fork: list[Parts] = []
        self._apart = Apart()
        self._ahead: dict[str, Ahead] = {}
        asking = Asking(lambda: self._parts)
        self._read, self._task, self._ask = asking.read, asking.write, asking.ask
        self.accounts = SqlAccounts(asking, self.database.dialect, clock)
        self.activity = SqlActivity(asking, self.database.dialect)
        self.flow_store = SqlFlowStore(asking, self.database.dialect, clock)
        call_in_child(self._begin_anew)

    def _begin_anew(self) -> None:
        """Leave the parent's threads and connections alone: to close them here would end them there."""
        self._before_fork.append(self._parts)
        self._parts = self._make_parts()

    # ------------------------------------------------------------------------------------------- opening and closing
    async def open(self) -> None:
        """Connect, and see that the tables are there; what is not opened opens itself when it is needed.

        Raises:
            LedgerUnavailableError: The database cannot be reached.
            NewerLedgerError: A newer version of millstream made the ledger.
        """
        await self._task(lambda _: None)

    def hasten(self) -> None:
        """Wait only a few seconds more; see `SharedLedger.hasten`."""
        self._parts.writer.hasten(_CLOSING_SECONDS)

    async def close(self) -> None:
        """Write what was handed in, and close all connections; memberships do not end with it."""
        await self._parts.close()

    # ------------------------------------------------------------------------------------- handing in and claiming
    def seal(self, job: JobRecord, data: dict[str, Any]) -> Any:
        """Write down an event's data; see `Ledger.seal`."""
        sealed, apart = seal_data(data, max_bytes=self._max_value_bytes)
        self._apart.keep(job.id, apart)
        return sealed

    async def submit(
        self, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft], claim_for: str | None
    ) -> tuple[JobRecord, Claim | None]:
        """Record a new job; see `Ledger.submit`."""
        new = self._written(job, graph, drafts)
        points.reach("submit-before-commit")
        item = Submit(new, claim_for, self._clock.now(), self._release)
        recorded, claim = await self._ask(item)
        points.reach("submit-after-commit")
        if isinstance(recorded, JobRecord):
            if claim is not None:
                self._apart.begin(claim)
            return recorded, claim
        known = partial(job_record_or_shown, recorded)
        return await self._read(lambda connection: check_same(new, recorded, known(self._parts.load(connection)))), None

    def submit_in(
        self, connection: sa.Connection, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft]
    ) -> JobRecord:
        """Record a new job in a user's own transaction; see `SharedLedger.submit_in`."""
        if not self.database.owns(connection):
            raise DefinitionError(
                "connection= is to another database than the ledger's, so the job could not be committed with it"
            )
        return within.submit(connection, self._written(job, graph, drafts), self._parts.blobs)

    def _written(self, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft]) -> NewJob:
        return write_job(job, graph, drafts, self._apart.drop(job.id), self._max_value_bytes)

    async def graph(self, job_id: str) -> JobGraph:
        """Return what a job executes; see `Ledger.graph`."""
        return await self._read(lambda connection: self._parts.lookups.graph(connection, job_id))

    async def claim(
        self,
        holder: str,
        limit: int,
        flows: Collection[str] | None = None,
        queues: Collection[str | None] | None = None,
        sides: int | None = None,
    ) -> list[Claim]:
        """Claim what may start; see `Ledger.claim`.

        Raises:
            FencedError: `holder` is no member of this ledger (any more).
        """
        now, claims = self._clock.now(), self._parts.claims
        wanted, most = wanted_of(flows, queues, sides), (limit, limit if sides is None else min(limit, sides))
        if limit <= 0:
            return []
        found = await self._task(lambda connection: claims.claim(connection, holder, most, wanted, now), self._release)
        for claim in found:
            self._apart.begin(claim)
        if found:
            points.reach("after-claim")
        return found

    async def claim_expired(self, holder: str, limit: int) -> list[Claim]:
        """Claim what expired before it started; see `SharedLedger.claim_expired`."""
        now, claims = self._clock.now(), self._parts.claims
        if not await self._read(lambda connection: claims.is_any_expired(connection, now)):
            return []
        return await self._task(lambda connection: claims.claim_expired(connection, holder, limit, now), self._release)

    async def due_at(
        self, flows: Collection[str] | None = None, queues: Collection[str | None] | None = None
    ) -> float | None:
        """Return when the next timer is over; see `Ledger.due_at`."""
        wanted = wanted_of(flows, queues)
        return await self._read(lambda connection: self._parts.claims.due_at(connection, wanted))

    def _release(self, claim: Claim) -> None:
        """Let others have a segment that was claimed for somebody who has gone."""
        self.record(claim, (), Pause("shutdown", None, claim.head), lambda _first, _kept: None)

    # ---------------------------------------------------------------------------------------------------- recording
    def record(self, claim: Claim, drafts: Sequence[Draft], end: End | None, done: Recorded) -> None:
        """Record what happened; see `Ledger.record`.

        While the ledger cannot be written to, records are kept, and tried again until the lease of their holder ends.
        """
        item = Record(claim, drafts, end, done, self._clock.now())
        try:
            item.data = [write_draft(draft[4]) if draft[0] else None for draft in drafts]
            item.large = self._apart.take(claim.job.id, drafts)
            if isinstance(end, Settlement):
                result = Written(None, {}) if end.result is None else write_value(end.result)
                item.values = result.raw, None if end.error is None else encode(end.error)
                item.large |= result.apart
        except MillstreamError as error:
            item.refuse(error)
            item.deliver()
            return
        ahead = self._ahead_of(claim, drafts, end)
        if ahead is not None:
            first = ahead.take(drafts)
            item.done = ahead.forget
        self._parts.writer.put(item)
        if ahead is not None:
            done(*first)
        if end is not None:
            self._apart.end(claim)

    def _ahead_of(self, claim: Claim, drafts: Sequence[Draft], end: End | None) -> Ahead | None:
        """Return what numbers a record that need not be committed to be answered."""
        if not may_begin(claim):
            return None
        job_id = claim.job.id
        if not may_go_on(drafts, end):
            self._ahead[job_id] = Ahead(0, is_over=True)
        if end is not None:
            self._ahead.pop(job_id, None)
            return None
        ahead = self._ahead.get(job_id)
        if ahead is None:
            ahead = self._ahead[job_id] = Ahead(claim.head + 1)
        return None if ahead.is_over else ahead

    async def answer(self, job_id: str, node: str, drafts: Sequence[Draft]) -> int | None:
        """Record an answer; see `Ledger.answer`."""
        first: int | None = await self._ask(self._changing(job_id, node, drafts))
        points.reach("after-answer")
        return first

    async def cancel(self, job_id: str, drafts: Sequence[Draft]) -> tuple[JobRecord, int | None]:
        """Ask to stop a job; see `Ledger.cancel`."""
        row, first = await self._ask(self._changing(job_id, None, drafts))
        points.reach("after-cancel-row")
        return await self._read(lambda connection: job_record_or_shown(row, self._parts.load(connection))), first

    def _changing(self, job_id: str, node: str | None, drafts: Sequence[Draft]) -> Change:
        check_id(job_id)
        item = Change(job_id, node, drafts, self._clock.now())
        item.data = [write_draft(draft[4]) for draft in drafts]
        item.large = self._apart.take(job_id, drafts)
        return item

    # ------------------------------------------------------------------------------------------------------ reading
    async def get(self, job_id: str) -> JobRecord:
        """Return a job; see `Ledger.get`.

        Raises:
            NotSerializableError: The class of an input or of its result is not to be found here.
        """
        return await self._read(lambda connection: self._parts.lookups.job(connection, job_id))

    async def find(self, which: Filter) -> list[JobRecord]:
        """Return jobs, with their values as they are shown; see `Ledger.find`."""
        asked = listing(self._parts.queries, which)
        rows = [] if asked is None else await self._read(lambda connection: connection.run(asked[0].sql, asked[1]))
        return [job_record(row, None) for row in rows]

    async def node_results(self, job_id: str) -> list[NodeResult]:
        """Return how nodes ended, with their values as they are shown; see `Ledger.node_results`."""
        return await self._read(lambda connection: self._parts.lookups.node_results(connection, job_id))

    async def node_result(self, job_id: str, path: str) -> NodeResult | None:
        """Return how one node ended; see `Ledger.node_result`."""
        return await self._read(lambda connection: self._parts.lookups.node_result(connection, job_id, path))

    async def alias(self, name: str) -> tuple[str, str] | None:
        """Return what an alias stands for; see `Ledger.alias`."""
        return await self._read(lambda connection: self._parts.lookups.alias(connection, name))

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return durable events, with their values as they are shown; see `Ledger.events`."""
        return await self._read(lambda connection: self._parts.lookups.events(connection, job_id, after, limit))

    async def event(self, job_id: str, seq: int) -> Event:
        """Return one durable event; see `Ledger.event`."""
        return await self._read(lambda connection: self._parts.lookups.event(connection, job_id, seq))

    async def history(self, job_id: str, after: int = 0) -> list[Event]:
        """Return all durable events; see `Ledger.history`."""
        return await self._read(lambda connection: self._parts.lookups.history(connection, job_id, after))

    # --------------------------------------------------------------------------------------------------- forgetting
    async def trim(self) -> list[str]:
        """Forget what retention no longer covers, then large values that nobody uses, and what has expired."""
        now, forgetting = self._clock.now(), self._parts.forgetting
        forgotten: list[str] = []
        if self._retention is not None:
            before = now - self._retention.total_seconds()
            forgotten = await self._task(lambda connection: forgetting.trim(connection, before, now))
        if not forgotten:
            await self._task(lambda connection: forgetting.sweep(connection, now))
            await self.accounts.sweep()
        return forgotten

    async def forget(self, job_ids: Collection[str]) -> list[str]:
        """Forget ended jobs; see `Ledger.forget`."""
        ids, now = sorted(set(filter(is_text, job_ids))), self._clock.now()
        return await self._task(lambda connection: self._parts.forgetting.forget(connection, ids, now))

    # ------------------------------------------------------------------------------------------------------- members
    async def join(
        self, process: str, on_dead: Callable[[], None], *, executes: bool = True, job_queue: str | None = None
    ) -> None:
        """Become a member; see `SharedLedger.join`."""
        tell = on_loop(asyncio.get_running_loop(), on_dead)

        def join(connection: Any) -> None:
            self._parts.members.join(connection, process, tell, executes=executes, job_queue=job_queue)

        await self._task(join)
        points.reach("after-join")

    async def agree(self, job_queue: str) -> None:
        """See that all use one event log; see `SharedLedger.agree`."""
        await self._read(lambda connection: self._parts.members.agree(connection, job_queue))

    async def leave(self, process: str) -> None:
        """End a membership; see `SharedLedger.leave`."""
        await self._task(lambda connection: self._parts.members.leave(connection, process))

    async def reap(self) -> list[str]:
        """Free what the dead hold; see `SharedLedger.reap`."""
        return await self._task(self._parts.members.reap)

    async def held(self, process: str) -> list[Held]:
        """Return news of what a process holds; see `SharedLedger.held`."""
        return await self._read(lambda connection: self._parts.members.held(connection, process))

    async def identity(self) -> Identity:
        """Return what tells this ledger from others; see `SharedLedger.identity`."""
        return await self._read(self._parts.identity)

    async def waiting(self, most: int, jobs: Collection[str] | None = None) -> list[Queued]:
        """Return what may be claimed now; see `SharedLedger.waiting`."""
        now, backlog = self._clock.now(), self._parts.backlog
        if jobs is None:
            return await self._read(lambda connection: backlog.waiting(connection, now, most))
        ids = sorted(set(filter(is_text, jobs)))
        return await self._read(lambda connection: backlog.waiting_of(connection, ids, most))

    async def backlog(self, most: int) -> int:
        """Return how much may be claimed now; see `SharedLedger.backlog`."""
        now = self._clock.now()
        return await self._read(lambda connection: self._parts.backlog.count(connection, now, most))

    async def take_turn(self, turn: str, process: str, seconds: float) -> bool:
        """Take a turn; see `SharedLedger.take_turn`."""
        backlog = self._parts.backlog
        if not await self._read(lambda connection: backlog.is_free(connection, turn, process, seconds)):
            return False
        return await self._task(lambda connection: backlog.take_turn(connection, turn, process, seconds))

    async def members(self) -> int:
        """Return how many execute; see `SharedLedger.members`."""
        return await self._read(self._parts.members.count)

    async def processes(self) -> list[Presence]:
        """Return who is there; see `Presences.processes`."""
        return await self._read(self._parts.members.present)

    async def heads(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the last numbers; see `SharedLedger.heads`."""
        ids = sorted(set(filter(is_text, job_ids)))
        return dict(await self._read(lambda connection: self._parts.queries.among(connection, "heads", ids)))
