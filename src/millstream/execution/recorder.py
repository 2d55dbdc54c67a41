"""Brings what happens in a run to the ledger, in batches, and from there to the event log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from millstream.events.base import EventLog
from millstream.execution.journal import Journal
from millstream.ledger.base import (
    MAIN,
    Claim,
    Done,
    End,
    FencedError,
    Ledger,
    Pause,
    RefusedRecordError,
    Settlement,
)
from millstream.model.event import Draft
from millstream.model.job import JobState
from millstream.model.value import Sealed

_BEGIN_SECONDS = 0.002
"""How long the beginning of a run waits for what follows at once, to be recorded with it."""

_END_SECONDS = 0.05
"""How long what ended a run waits for its end, which coroutines that are still being cancelled may hold up."""


class Recorder:
    """The sink of one run. Whatever happens during a turn of the loop is one record.

    Of a short run there is one record as a whole: what begins it waits for a moment, and what ends it for its end.

    Args:
        claim: The segment's claim.
        ledger: Where to record.
        log: Where to publish what is recorded.
        on_fenced: Called when the ledger refuses a record, since another holds the segment now.
        on_news: Called when others recorded something in between; `caught_up` is to follow. Side segments take no
            notice of others.
        journal: Is told of retries.

    Attributes:
        refusal: Why the ledger cannot take what happened, where it is not that another holds the segment.
        seen: Number of the last event of the job up to which the holder knows all of them.
    """

    __slots__ = (
        "_claim",
        "_drafts",
        "_held",
        "_idle",
        "_is_beginning",
        "_is_ending",
        "_is_fenced",
        "_journal",
        "_late",
        "_ledger",
        "_log",
        "_loop",
        "_on_fenced",
        "_on_news",
        "_open",
        "_resume",
        "_timer",
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
        journal: Journal | None = None,
    ) -> None:
        """Start with nothing to record."""
        self._claim = claim
        self._ledger = ledger
        self._log = log
        self._on_fenced = on_fenced
        self._on_news = on_news
        self._journal = journal
        self._is_fenced = self._is_beginning = self._is_ending = False
        self._timer: asyncio.TimerHandle | None = None
        self._drafts: list[Draft] = []
        self._held: list[Any] = []
        self._late: list[list[Any]] = []
        self._resume: Callable[[Sequence[Any]], None]
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._idle: asyncio.Future[None] | None = None
        self.refusal: RefusedRecordError | None = None
        self.seen = claim.head

    def begin(self, draft: Draft) -> None:
        """Take the event that a run begins with; it is recorded with the first durable one, or soon."""
        self._is_beginning = True
        self._timer = self._loop.call_later(_BEGIN_SECONDS, self._begin_late)
        self._drafts.append(draft)

    def put(self, draft: Draft) -> None:
        """Take an event; it is recorded with all others of this turn of the loop."""
        if not self._drafts or (self._is_beginning and draft[0]):
            self._is_beginning = False
            self._loop.call_soon(self.flush)
        self._drafts.append(draft)

    def end(self) -> None:
        """Take note that the run ends now: what was put is recorded with its end, by `finish`, or soon."""
        self._is_ending = True
        if self._timer is None:  # else its beginning is a moment ago, and this one is set where that is over first
            self._timer = self._loop.call_later(_END_SECONDS, self._end_late)

    def seal(self, data: dict[str, Any]) -> Any:
        """Return data with users' values in the form in which it can be recorded; see `Ledger.seal`."""
        return self._ledger.seal(self._claim.job, data)

    def hold(self, places: Sequence[Any], resume: Callable[[Sequence[Any]], None]) -> bool:
        """Call `resume` with `places` once all that was put so far is recorded.

        Those of one record are resumed together; returns whether these are the first of theirs.
        """
        if not self._drafts or self._is_beginning:
            self._is_beginning = False
            self._loop.call_soon(self.flush)
        is_first = not self._held
        self._held.extend(places)
        self._resume = resume
        return is_first

    def flush(self) -> None:
        """Record what was taken so far, not only at the end of this turn of the loop."""
        if self._is_fenced or self._is_ending:
            return
        self._is_beginning = False
        if self._drafts:
            self._record(None, partial(self._recorded, self._held))
        elif self._held and not self._open:  # else the record that is under way brings them
            held, self._held = self._held, []
            self._resume(held)

    def caught_up(self, seen: int) -> None:
        """Take note that the holder knows all events up to a number, and go on with what waited for that."""
        self.seen = max(self.seen, seen)
        late, self._late = self._late, []
        for held in late:  # each by itself: it is counted how many records are waited for
            self._resume(held)

    async def finish(self, end: End, instead: Sequence[Draft] = ()) -> None:
        """Record what is left, and how the job or the segment ends, or is laid down (a pause's `seen` is ours).

        Args:
            end: How.
            instead: What is recorded in place of what the ledger cannot take, where there is such.

        Raises:
            FencedError: Another holds the segment now, or the job has ended.
            RefusedRecordError: The ledger cannot take what happened: the job can only fail, or be laid down.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._open:
            self._idle = self._loop.create_future()
            await self._idle
        if self.refusal is not None:
            self._drafts = list(instead)  # what is left builds on what was refused
            if not instead and (isinstance(end, Done) or (isinstance(end, Settlement) and not _is_failure(end))):
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

    def _begin_late(self) -> None:
        self._timer = None
        if self._is_ending:
            self.end()
        else:
            self.flush()

    def _end_late(self) -> None:
        self._is_ending, self._timer = False, None
        self.flush()

    def _record(self, end: End | None, done: Callable[..., None]) -> None:
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
            is_behind = self._publish(first, kept)
            if is_behind and held:
                self._late.append(held)  # what others recorded before comes first, as it does in the record
            elif held:
                self._resume(held)
        if not self._open:
            if self._held and not self._drafts:
                self.flush()
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _publish(self, first: int, kept: Sequence[Draft]) -> bool:
        """Give a record to the log; return whether others recorded something before it that the holder has to read."""
        last, claim = first - 1 + sum(draft[0] for draft in kept), self._claim
        told = [shown(draft) for draft in kept]
        if self._journal is not None:
            for draft in told:
                if draft[1] == "node_retried":
                    self._journal.retried(claim.job, draft)
        there = self._log.append(claim.job.id, first, told, claim.attempt, claim.segment)
        if claim.segment != MAIN:
            return False
        is_behind = first > self.seen + 1
        if not is_behind:
            self.seen = max(self.seen, last)
        if is_behind or there < last:
            self._on_news()
        return is_behind


def _is_failure(end: Settlement) -> bool:
    return end.state is JobState.FAILED


def shown(draft: Draft) -> Draft:
    """Return a draft as readers of the event log see it."""
    data = draft[4]
    return (*draft[:4], data.shown) if type(data) is Sealed else draft
