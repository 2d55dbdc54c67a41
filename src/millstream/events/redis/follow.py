"""Compares what this process's readers were brought by Redis with the ledger, and brings them what Redis has lost."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from millstream.clock import Clock
from millstream.events.memory import MemoryEventLog
from millstream.events.redis.transport import Transport
from millstream.events.tail import Tail
from millstream.ledger.base import SharedLedger

LOOK_SECONDS: Final = 1.0
"""How often the ledger is asked; and how long an event may be on its way by Redis before it counts as lost."""


class RedisTail:
    """Follows the watched jobs of one process, those that run here too: by Redis, and without it as `Tail` does.

    An event of the ledger that Redis does not bring is given to the readers, and to Redis, once it is overdue. What
    is on its way is waited for, since tokens may come before it.

    Args:
        tail: Reads the ledger.
        ledger: The ledger.
        log: What this process's readers see.
        transport: This process's part in Redis.
        clock: The time.
    """

    def __init__(
        self, tail: Tail, ledger: SharedLedger, log: MemoryEventLog, transport: Transport, clock: Clock
    ) -> None:
        """Follow nothing yet."""
        self._tail, self._ledger, self._log, self._transport, self._clock = tail, ledger, log, transport, clock
        self._look_now = asyncio.Event()
        self._due_at = 0.0
        self._new: set[str] = set()
        self._late: dict[str, tuple[int, float]] = {}
        log.on_watch = self._begin
        transport.link.on_back.append(self._look_now.set)
        transport.link.on_back.append(tail.hurry)

    def heard(self, job_id: str) -> None:
        """Take note that a job has ended; its last events may still be on their way."""
        if self._transport.is_away:
            self._tail.heard(job_id)
        if self._log.is_watched(job_id):
            self._log.conclude(job_id)

    async def follow(self) -> None:
        """Look once, and wait until it is time to look again; see `Follower.follow`.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        if self._transport.is_away:
            self._new.clear()  # once it is back, all that is watched is read from there anyway
            await self._tail.follow()
            return
        self._look_now.clear()
        begun, self._new = self._new, set()
        new = begun
        now = asyncio.get_running_loop().time()
        if now >= self._due_at:
            self._due_at = now + LOOK_SECONDS
            new = set(self._log.watched())
        shared = {job_id for job_id in new if self._log.is_watched(job_id) and not self._tail.is_local(job_id)}
        if shared:
            await self._compare(shared)
        for job_id in begun.intersection(shared):  # tokens came while nobody read: the ledger knows of none
            self._transport.reading.read(job_id)
        await self._rest()

    async def _rest(self) -> None:
        left = self._due_at - asyncio.get_running_loop().time() if self._log.watched() else None
        try:
            await asyncio.wait_for(self._look_now.wait(), left if left is None else max(0.0, left))
        except TimeoutError:
            return

    async def _compare(self, jobs: Collection[str]) -> None:
        """Bring what is late of some jobs."""
        heads = await self._ledger.heads(jobs)
        for job_id in jobs:
            if job_id not in heads:
                self._log.forget(job_id)  # retention has taken it
        late = {job_id: head for job_id, head in heads.items() if head > self._log.head(job_id)}
        is_read = not late or await self._transport.reading.bring(late, LOOK_SECONDS)
        now = asyncio.get_running_loop().time()
        known = self._late
        self._late = {job: told for job, told in known.items() if job not in jobs and self._log.is_watched(job)}
        for job_id, head in late.items():
            there = self._log.head(job_id)
            if there >= head or not self._log.is_watched(job_id):
                continue
            noticed, since = known.get(job_id, (head, now))
            if there >= noticed:  # it comes, only not as fast as it happens
                noticed, since = head, now
            is_overdue = now - since >= LOOK_SECONDS / 2
            if is_overdue or is_read:
                await self._fill(job_id, is_overdue=is_overdue)
            if self._log.head(job_id) < head:
                self._late[job_id] = noticed, since

    async def _fill(self, job_id: str, *, is_overdue: bool) -> None:
        """Give readers, and Redis, what only the ledger has: all of it, or else what is too old to be on its way."""
        before = float("inf") if is_overdue else self._clock.now() - LOOK_SECONDS
        filled = await self._tail.fill(job_id, before=before)
        if filled:
            self._transport.outgoing.refill(job_id, filled)

    def _begin(self, job_id: str) -> None:
        """Take note that a reader begins to wait for a job."""
        if not self._log.is_whole(job_id):
            self._new.add(job_id)
        self._look_now.set()
        self._tail.hurry()
