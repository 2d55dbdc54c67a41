"""What this process has to append to Redis: a bounded buffer, one flush at a time, and the holes that a flush finds."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from millstream.errors import JobNotFoundError, NotSerializableError, WorkflowServiceUnavailableError
from millstream.events.memory import MemoryEventLog
from millstream.events.redis.link import Link, RedisUnavailableError
from millstream.events.redis.script import AppendScript, Entry, Reply
from millstream.log import get_logger
from millstream.model.event import START, TERMINAL, Cursor, Draft, Event
from millstream.portal import end

_log = get_logger("millstream.events")

MOST_EVENTS: Final = 100_000
MOST_BYTES: Final = 64 << 20
"""What the buffer holds at most; when it has more, all of it is dropped, and Redis gets it from the ledger."""

_FLUSH_EVENTS: Final = 1000
"""Events of one flush, about: Redis does nothing else meanwhile, for 3 ms per 1,000 events."""

_FLUSH_BYTES: Final = 4 << 20
_ENTRY_EVENTS: Final = 200
_MENDED_AT_ONCE: Final = 100
_PAGE: Final = 1000
_MOST_OWED: Final = 10_000
_MOST_SEEN: Final = 10_000
_LAST_FLUSH_SECONDS: Final = 2.0

Recorded = Callable[[str, int, int], Awaitable[list[Event]]]
"""Returns what the ledger has of a job's events behind a number, at most so many: `Ledger.events`."""


@dataclass(slots=True)
class _Hole:
    """What Redis lacks of a job: all behind `head`; and what has to wait until it is filled."""

    head: int
    waiting: list[Entry] = field(default_factory=list)


class Outgoing:
    """Appends this process's events to Redis, without ever holding up who has them.

    Args:
        link: Where Redis is.
        script: Appends there.
        view: What this process's readers see; it gets the events back with the cursors that they got.
        recorded: Where events are that Redis lacks.
        read: Called with the id of a watched job whose events in Redis have to be read: others appended, too.
        on_gap: Called when the view lacks what only the ledger has.
    """

    def __init__(
        self,
        link: Link,
        script: AppendScript,
        view: MemoryEventLog,
        recorded: Recorded,
        read: Callable[[str], None],
        on_gap: Callable[[], None],
    ) -> None:
        """Have nothing to append."""
        self._link, self._script, self._view = link, script, view
        self._recorded, self._read, self._on_gap = recorded, read, on_gap
        self._numbers = count(1)
        self._buffer: deque[Entry] = deque()
        self._open: dict[str, Entry] = {}
        self._events = self._bytes = 0
        self._holes: dict[str, _Hole] = {}
        self._seen: dict[str, Cursor] = {}
        self._owed: dict[str, None] = {}
        self._forgotten: set[str] = set()
        self._news = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._task: asyncio.Task[None] | None = None
        link.on_back.append(self._pay_back)

    def start(self) -> None:
        """Begin to append."""
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name="millstream redis appends")

    async def stop(self) -> None:
        """Append what is left, as far as that is quickly done, and stop."""
        if self._task is not None and not self._task.get_loop().is_closed():
            try:
                await asyncio.wait_for(self._is_idle.wait(), _LAST_FLUSH_SECONDS)
            except TimeoutError:
                _log.warning("the last events did not reach Redis; others read them from the ledger")
        task, self._task = self._task, None
        await end(task)

    # ------------------------------------------------------------------------------------------------------ taking
    def take(self, job_id: str, first: int, drafts: Sequence[Draft], attempt: int, segment: int) -> None:
        """Take events to append; see `EventLog.append`."""
        if self._link.is_away or self._task is None:
            self._owe(job_id)
            self._show(job_id, first, drafts)
            return
        entry = self._open.get(job_id)
        if entry is None or not _continues(entry, first, attempt, segment):
            entry = self._begin(job_id, first, attempt, segment)
        for draft in drafts:
            if len(entry.drafts) >= _ENTRY_EVENTS:
                entry = self._begin(job_id, entry.next, attempt, segment)
            self._add(entry, draft)
        self._wake()
        if self._events > MOST_EVENTS or self._bytes > MOST_BYTES:
            _log.warning(
                "Redis is too slow; what waits for it is dropped, and comes from the ledger", url=self._link.url
            )
            self._drop_all()

    def refill(self, job_id: str, events: Sequence[Event]) -> None:
        """Append what the ledger had and Redis had not, unless it is of an ended job that Redis does not know."""
        if self._link.is_away or self._task is None:
            return
        is_ended = events[-1].type == TERMINAL
        for start in range(0, len(events), _ENTRY_EVENTS):
            some = events[start : start + _ENTRY_EVENTS]
            entry = Entry(job_id, some[0].seq, next(self._numbers), is_refill=True, is_for_known=is_ended)
            self._put(entry)
            for event in some:
                self._add(entry, _draft(event))
        self._wake()

    def mend(self, jobs: Iterable[str]) -> None:
        """Append what only the ledger has of jobs that Redis knows."""
        for job_id in jobs:
            self._put(Entry(job_id, 1, next(self._numbers), is_for_known=True))
        self._wake()

    def forget(self, job_id: str) -> None:
        """Have Redis forget a job."""
        self._forgotten.add(job_id)
        self._wake()

    def _begin(self, job_id: str, first: int, attempt: int, segment: int) -> Entry:
        entry = self._open[job_id] = Entry(job_id, first, next(self._numbers), attempt, segment)
        self._put(entry)
        return entry

    def _put(self, entry: Entry) -> None:
        hole = self._holes.get(entry.job_id)
        if hole is None:
            self._buffer.append(entry)
        else:
            hole.waiting.append(entry)

    def _add(self, entry: Entry, draft: Draft) -> None:
        before = entry.size
        try:
            entry.add(draft)
        except NotSerializableError as error:  # so it is volatile: what is durable was written down before
            _log.warning("an event is not told, since it cannot be written down", job=entry.job_id, why=str(error))
        self._events += 1
        self._bytes += entry.size - before

    def _wake(self) -> None:
        self._is_idle.clear()
        self._news.set()

    # -------------------------------------------------------------------------------------------------- flushing
    async def _serve(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._buffer or self._holes or self._forgotten:
                try:
                    await self._flush()
                except RedisUnavailableError:
                    self._drop_all()
                except Exception as error:  # noqa: BLE001  whatever it is, the next events are appended
                    _log.error("events could not be appended to Redis", exc_info=error)
                    self._drop_all()
            self._is_idle.set()

    async def _flush(self) -> None:
        if self._forgotten:
            forgotten, self._forgotten = self._forgotten, set()
            await self._script.forget(forgotten)
        entries = await self._mended() if self._holes else []
        size = sum(entry.size for entry in entries)
        events = sum(len(entry.drafts) for entry in entries)
        while self._buffer and events < _FLUSH_EVENTS and size < _FLUSH_BYTES:
            entry = self._buffer.popleft()
            hole = self._holes.get(entry.job_id)
            if hole is not None:
                hole.waiting.append(entry)
                continue
            self._close(entry)
            self._count(entry, -1)
            entries.append(entry)
            events, size = events + len(entry.drafts), size + entry.size
        if not entries:
            return
        asked = [(entry, self._seen.get(entry.job_id, START), self._is_shown(entry.job_id)) for entry in entries]
        try:
            replies = await self._script.append(asked)
        except RedisUnavailableError:
            for entry in entries:
                self._give_up(entry)
            raise
        for entry, reply in zip(entries, replies, strict=True):
            self._settle(entry, reply)

    def _settle(self, entry: Entry, reply: Reply) -> None:
        """Take in what became of an entry."""
        job_id = entry.job_id
        self._seen.pop(job_id, None)
        if not reply.is_over:
            if reply.after.seq < entry.first - 1:
                self._find_hole(entry, reply.after.seq)
                return
            if entry.is_for_known and not entry.drafts and reply.after.seq:
                self._holes.setdefault(job_id, _Hole(reply.after.seq))
            self._see(job_id, reply.after)
        if not self._is_shown(job_id):
            return
        is_next = len(reply.cursors) == len(entry.drafts) and reply.before == self._view.last(job_id)
        numbered = zip(reply.cursors, entry.drafts, strict=True) if is_next else ()
        placed = [_event(at, draft) for at, draft in numbered if at is not None]
        if is_next and len(placed) == len(entry.drafts):
            self._view.place(job_id, placed)
        else:
            self._view.doubt(job_id)
            self._read(job_id)

    def _is_shown(self, job_id: str) -> bool:
        """Whether this process's readers see what is appended without reading it from Redis."""
        return self._view.is_watched(job_id) or self._view.is_whole(job_id)

    def _see(self, job_id: str, cursor: Cursor) -> None:
        """Remember where a job's events end, for when Redis has forgotten the last ones."""
        self._seen[job_id] = cursor
        if len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]

    # ----------------------------------------------------------------------------------------------------- holes
    def _find_hole(self, entry: Entry, head: int) -> None:
        if not entry.is_for_known:
            self._holes.setdefault(entry.job_id, _Hole(head)).waiting.append(entry)
            self._count(entry, 1)

    async def _mended(self) -> list[Entry]:
        """Return what fills the holes, each with what waits for it where it is filled by that."""
        jobs = list(self._holes)[:_MENDED_AT_ONCE]
        pages = await asyncio.gather(*(self._page(job_id, self._holes[job_id].head) for job_id in jobs))
        entries: list[Entry] = []
        for job_id, page in zip(jobs, pages, strict=True):
            hole = self._holes[job_id]
            missing = hole.waiting[0].first - 1 if hole.waiting else math.inf
            lacking = [event for event in page if event.seq <= missing]
            if not lacking or lacking[0].seq != hole.head + 1:
                entries += self._abandoned(job_id)
                continue
            refill = Entry(job_id, hole.head + 1, next(self._numbers), is_refill=True)
            for event in lacking:
                refill.add(_draft(event))
            entries.append(refill)
            hole.head = lacking[-1].seq
            if hole.head == missing:
                del self._holes[job_id]
                entries += self._released(hole.waiting)
        return entries

    def _released(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return entries that waited, as later ones than what was appended meanwhile."""
        for entry in entries:
            entry.number = next(self._numbers)
            self._close(entry)
            self._count(entry, -1)
        return entries

    async def _page(self, job_id: str, head: int) -> list[Event]:
        try:
            return await self._recorded(job_id, head, _PAGE)
        except JobNotFoundError:
            self._forgotten.add(job_id)  # retention has taken it, and may not have reached Redis
            return []
        except WorkflowServiceUnavailableError as error:
            _log.debug("what Redis lacks of a job cannot be read", job=job_id, why=str(error))
            return []

    def _abandoned(self, job_id: str) -> list[Entry]:
        """Leave a hole that cannot be filled; return what waited and needs nothing of it."""
        hole = self._holes.pop(job_id)
        left = []
        for entry in self._released(hole.waiting):
            if entry.first - 1 > hole.head:
                self._give_up(entry)
            else:
                left.append(entry)
        return left

    # ---------------------------------------------------------------------------------------- when Redis is away
    def _drop_all(self) -> None:
        self._forgotten.clear()
        waiting = [entry for hole in self._holes.values() for entry in hole.waiting]
        dropped = [*waiting, *self._buffer]
        self._buffer.clear()
        self._holes.clear()
        self._open.clear()
        self._events = self._bytes = 0
        for entry in dropped:
            self._give_up(entry)

    def _give_up(self, entry: Entry) -> None:
        self._owe(entry.job_id)
        self._show(entry.job_id, entry.first, entry.drafts)

    def _show(self, job_id: str, first: int, drafts: Sequence[Draft]) -> None:
        """Give durable events to this process's readers without Redis."""
        if self._view.is_watched(job_id):
            there = self._view.append(job_id, first, [draft for draft in drafts if draft[0]])
            if there < first - 1:
                self._on_gap()

    def _owe(self, job_id: str) -> None:
        """Remember a job of which Redis may lack something that nobody appends any more, its end above all."""
        self._view.doubt(job_id)
        if len(self._owed) < _MOST_OWED:
            self._owed[job_id] = None

    def _pay_back(self) -> None:
        """Append what Redis missed while it was away, of jobs that it knows."""
        owed, self._owed = self._owed, {}
        self.mend(owed)

    # ----------------------------------------------------------------------------------------------- the buffer
    def _close(self, entry: Entry) -> None:
        """Add nothing more to an entry that is about to go."""
        if self._open.get(entry.job_id) is entry:
            del self._open[entry.job_id]

    def _count(self, entry: Entry, sign: int) -> None:
        self._events += sign * len(entry.drafts)
        self._bytes += sign * entry.size


def _continues(entry: Entry, first: int, attempt: int, segment: int) -> bool:
    """Whether events can be appended in one with an entry that was not sent yet."""
    same = entry.next == first and entry.segment == segment and entry.attempt == attempt
    return same and not entry.is_refill and len(entry.drafts) < _ENTRY_EVENTS


def _draft(event: Event) -> Draft:
    return True, event.type, event.at, event.node, event.data


def _event(at: Cursor, draft: Draft) -> Event:
    _, kind, when, node, data = draft
    return Event(at.seq, at.k, kind, when, node, data)
