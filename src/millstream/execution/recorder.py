"""Brings what happens in a run to the ledger, in batches, and from there to the event log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from millstream.events.base import EventLog
from millstream.ledger.base import Claim, FencedError, Ledger, Pause, RefusedRecordError, Settlement
from millstream.model.event import Draft
from millstream.model.job import JobState
from millstream.model.value import Sealed


class Recorder:
    """The sink of one run. Whatever happens during a turn of the loop is one record.

    Args:
        claim: The segment's claim.
        ledger: Where to record.
        log: Where to publish what is recorded.
        on_fenced: Called when the ledger refuses a record, since another holds the segment now.
        on_news: Called when others recorded something in between.

    Attributes:
        refusal: Why the ledger cannot take what happened, where it is not that another holds the segment.
        seen: Number of the last event of the job up to which the holder knows all of them.
    """

    __slots__ = (
        "_claim",
        "_drafts",
        "_held",
        "_idle",
        "_is_fenced",
        "_ledger",
        "_log",
        "_loop",
        "_on_fenced",
        "_on_news",
        "_open",
        "_resume",
        "refusal",
        "seen",
    )

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        log: EventLog,
        on_fenced: Callable[[], None],
        on_news: Callable[[], None],
    ) -> None:
        """Start with nothing to record."""
        self._claim = claim
        self._ledger = ledger
        self._log = log
        self._on_fenced = on_fenced
        self._on_news = on_news
        self._is_fenced = False
        self._drafts: list[Draft] = []
        self._held: list[Any] = []
        self._resume: Callable[[Sequence[Any]], None]
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._idle: asyncio.Future[None] | None = None
        self.refusal: RefusedRecordError | None = None
        self.seen = claim.head

    def put(self, draft: Draft) -> None:
        """Take an event; it is recorded with all others of this turn of the loop."""
        if not self._drafts:
            self._loop.call_soon(self.flush)
        self._drafts.append(draft)

    def seal(self, data: dict[str, Any]) -> Any:
        """Return data with users' values in the form in which it can be recorded; see `Ledger.seal`."""
        return self._ledger.seal(self._claim.job, data)

    def hold(self, places: Sequence[Any], resume: Callable[[Sequence[Any]], None]) -> bool:
        """Call `resume` with `places` once all that was put so far is recorded.

        Those of one record are resumed together; returns whether these are the first of theirs.
        """
        if not self._drafts:
            self._loop.call_soon(self.flush)
        is_first = not self._held
        self._held.extend(places)
        self._resume = resume
        return is_first

    def flush(self) -> None:
        """Record what was taken so far, not only at the end of this turn of the loop."""
        if self._is_fenced:
            return
        if self._drafts:
            self._record(None, partial(self._recorded, self._held))
        elif self._held:
            held, self._held = self._held, []
            self._resume(held)

    async def finish(self, end: Settlement | Pause) -> None:
        """Record what is left, and how the job ends or how the segment is laid down (a pause's `seen` is ours).

        Raises:
            FencedError: Another holds the segment now, or the job has ended.
            RefusedRecordError: The ledger cannot take what happened: the job can only fail, or be laid down.
        """
        if self._open:
            self._idle = self._loop.create_future()
            await self._idle
        if self.refusal is not None:
            self._drafts = []  # they build on what was refused
            if isinstance(end, Settlement) and end.state is not JobState.FAILED:
                raise self.refusal
        settled: asyncio.Future[None] = self._loop.create_future()

        def done(first: int | FencedError, kept: Sequence[Draft]) -> None:
            self._recorded([], first, kept)
            if settled.done():
                return
            if isinstance(first, FencedError):
                settled.set_exception(first)
            else:
                settled.set_result(None)

        self._record(replace(end, seen=self.seen) if isinstance(end, Pause) else end, done)
        await settled

    def _record(self, end: Settlement | Pause | None, done: Callable[..., None]) -> None:
        drafts, self._drafts, self._held = self._drafts, [], []
        self._open += 1
        self._ledger.record(self._claim, drafts, end, done)

    def _recorded(self, held: list[Any], first: int | FencedError, kept: Sequence[Draft]) -> None:
        self._open -= 1
        if isinstance(first, FencedError):
            if not self._is_fenced:
                self._is_fenced = True
                self.refusal = first if isinstance(first, RefusedRecordError) else None
                self._on_fenced()
        else:
            self._publish(first, kept)
            if held:
                self._resume(held)
        if not self._open and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _publish(self, first: int, kept: Sequence[Draft]) -> None:
        last = first - 1 + sum(draft[0] for draft in kept)
        told = [shown(draft) for draft in kept]
        there = self._log.append(self._claim.job.id, first, told, self._claim.attempt)
        if first <= self.seen + 1:
            self.seen = max(self.seen, last)
        if first > self.seen + 1 or there < last:
            self._on_news()


def shown(draft: Draft) -> Draft:
    """Return a draft as readers of the event log see it."""
    data = draft[4]
    return (*draft[:4], data.shown) if type(data) is Sealed else draft
