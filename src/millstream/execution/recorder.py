"""Brings what happens in a run to the ledger, in batches, and from there to the event log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from millstream.events.base import EventLog
from millstream.ledger.base import Claim, FencedError, Ledger, Settlement
from millstream.model.event import Draft


class Recorder:
    """The sink of one run. Whatever happens during a turn of the loop is one record.

    Args:
        claim: The segment's claim.
        ledger: Where to record.
        log: Where to publish what is recorded.
        on_fenced: Called when the ledger refuses a record, since another holds the segment now.
    """

    __slots__ = ("_claim", "_drafts", "_is_fenced", "_ledger", "_log", "_loop", "_on_fenced")

    def __init__(self, claim: Claim, ledger: Ledger, log: EventLog, on_fenced: Callable[[], None]) -> None:
        """Start with nothing to record."""
        self._claim = claim
        self._ledger = ledger
        self._log = log
        self._on_fenced = on_fenced
        self._is_fenced = False
        self._drafts: list[Draft] = []
        self._loop = asyncio.get_running_loop()

    def put(self, draft: Draft) -> None:
        """Take an event; it is recorded with all others of this turn of the loop."""
        if not self._drafts:
            self._loop.call_soon(self.flush)
        self._drafts.append(draft)

    async def settle(self, end: Settlement) -> None:
        """Record what is left together with how the job ends.

        Raises:
            FencedError: Another holds the segment now, or the job has ended.
        """
        drafts, self._drafts = self._drafts, []
        settled: asyncio.Future[None] = self._loop.create_future()

        def done(first: int | FencedError, kept: Sequence[Draft]) -> None:
            self._publish(first, kept)
            if isinstance(first, FencedError):
                settled.set_exception(first)
            else:
                settled.set_result(None)

        self._ledger.record(self._claim, drafts, end, done)
        await settled

    def flush(self) -> None:
        """Record what was taken so far, not only at the end of this turn of the loop."""
        if self._drafts and not self._is_fenced:
            drafts, self._drafts = self._drafts, []
            self._ledger.record(self._claim, drafts, None, self._publish)

    def _publish(self, first: int | FencedError, kept: Sequence[Draft]) -> None:
        if isinstance(first, FencedError):
            self._is_fenced = True
            self._on_fenced()
        else:
            self._log.append(self._claim.job.id, first, kept, self._claim.attempt)
