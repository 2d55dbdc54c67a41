"""Readers of jobs that run elsewhere, or ran in the past: their events come from the ledger into this process's log."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import takewhile
from typing import Protocol

import anyio

from millstream.errors import JobNotFoundError
from millstream.events.memory import MemoryEventLog
from millstream.ledger.base import SharedLedger
from millstream.model.event import TERMINAL, Cursor, Event

FIRST_WAIT, LAST_WAIT = 0.05, 1.0
"""Seconds between two looks: at first, and when nothing has come for long."""

_PAGE = 1000


class Follower(Protocol):
    """Brings the events of watched jobs into this process's log, wherever they happen."""

    def heard(self, job_id: str) -> None:
        """Take note that a job has ended, or that there is other news of it."""

    async def follow(self) -> None:
        """Look once, and wait until it is time to look again.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """


class Tail:
    """Follows the watched jobs of one process in the ledger, with one statement for all of them.

    Args:
        ledger: Where the events are.
        log: Where they are read.
        is_local: Says of a job whether it runs in this process, which then publishes its events itself, or is no
            business of the ledger.

    Attributes:
        is_local: See above.
    """

    def __init__(self, ledger: SharedLedger, log: MemoryEventLog, is_local: Callable[[str], bool]) -> None:
        """Follow nothing yet."""
        self._ledger = ledger
        self._log = log
        self.is_local = is_local
        self._look_now = asyncio.Event()
        self._wait = FIRST_WAIT
        self._due_at = 0.0
        self._told: set[str] = set()
        log.on_watch = lambda _: self.hurry()

    def heard(self, job_id: str) -> None:
        """Take note that there is news of a job: it is read at once if it is watched."""
        if job_id in self._log.watched():
            self._told.add(job_id)
            self._look_now.set()

    async def follow(self) -> None:
        """Read what there is news of, look at all that is watched when it is time to, and wait until it is again.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        self._look_now.clear()
        told, self._told = self._told, set()
        for job_id in self._watched().keys() & told:
            await self.fill(job_id)
        if not self._log.watched():
            await self._look_now.wait()
            return
        now = asyncio.get_running_loop().time()
        if now >= self._due_at:
            await self._catch_up(self._watched())
            self._due_at = now + self._wait
        with anyio.move_on_after(self._due_at - now):
            await self._look_now.wait()

    def _watched(self) -> dict[str, int]:
        """Return the watched jobs that run elsewhere, each with the number of the last event that is here."""
        return {job_id: head for job_id, head in self._log.watched().items() if not self.is_local(job_id)}

    async def _catch_up(self, watched: dict[str, int]) -> None:
        if not watched:
            self._wait = LAST_WAIT
            return
        heads = await self._ledger.heads(watched)
        late = [job_id for job_id, head in heads.items() if head > watched[job_id]]
        for job_id in late:
            await self.fill(job_id)
        for job_id in watched.keys() - heads.keys():
            self._log.forget(job_id)  # retention has taken it
        self._wait = FIRST_WAIT if late else min(1.5 * self._wait, LAST_WAIT)

    async def fill(self, job_id: str, until: float = math.inf, before: float = math.inf) -> list[Event]:
        """Append what the log lacks of a job, and return it.

        Args:
            job_id: The job.
            until: Up to the event of this number.
            before: Only events that happened before; seconds since the epoch, UTC.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        filled: list[Event] = []
        while (head := self._log.head(job_id)) < until:
            try:
                page = await self._ledger.events(job_id, head, _PAGE)
            except JobNotFoundError:
                break
            events = list(takewhile(lambda event: event.at < before and event.seq <= until, page))
            if not events:
                break
            if events[0].seq > head + 1:
                self._log.lose(job_id, Cursor(events[0].seq - 1))
                break
            self._log.append(job_id, head + 1, [(True, e.type, e.at, e.node, e.data) for e in events])
            filled += events
            if events[-1].type == TERMINAL or len(events) < len(page):
                break
        return filled

    def hurry(self) -> None:
        """Look at once, and often for a while."""
        self._wait, self._due_at = FIRST_WAIT, 0.0
        self._look_now.set()
