"""Reads from Redis what this process's readers wait for, and only that: woken by the channel, all jobs in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from millstream.errors import WorkflowServiceUnavailableError
from millstream.events.memory import MemoryEventLog
from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Link, RedisUnavailableError
from millstream.log import get_logger
from millstream.model.event import Cursor, Event
from millstream.model.value import decode_shown
from millstream.portal import end

_log = get_logger("millstream.events")

_AT_ONCE: Final = 100
"""Streams that are read by one command after another without waiting for an answer."""

_EVENTS: Final = 2000
"""Events that are asked for at once, of all streams together."""


class Reading:
    """Brings the events of watched jobs from Redis into this process's view.

    Args:
        link: Where Redis is.
        keys: The names there.
        view: What is read.
        fill: Brings into the view what the ledger has of a job, up to an event's number.
    """

    def __init__(
        self, link: Link, keys: Keys, view: MemoryEventLog, fill: Callable[[str, int], Awaitable[object]]
    ) -> None:
        """Read nothing yet."""
        self._link, self._keys, self._view, self._fill = link, keys, view, fill
        self._wanted: dict[str, None] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._works: set[asyncio.Task[bool]] = set()

    def start(self) -> None:
        """Begin to read."""
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name="millstream redis reads")

    async def stop(self) -> None:
        """Read nothing more."""
        task, self._task = self._task, None
        await end(task)
        for work in list(self._works):
            work.cancel()

    def heard(self, publisher: str, said: bytes) -> None:
        """Take a message of the wake-up channel.

        Args:
            publisher: Under which id this process itself speaks there.
            said: The message: who speaks, and which jobs have new events.
        """
        speaker, *jobs = said.decode().split()
        if speaker != publisher:
            for job_id in jobs:
                self._view.doubt(job_id)
                self.read(job_id)

    def connected(self) -> None:
        """Take note that the channel is heard from now on: what was said before may not have been."""
        self._view.doubt_all()
        self.read_all()

    def read(self, job_id: str) -> None:
        """Read what is new of a job, if it is watched."""
        if self._view.is_watched(job_id):
            self._wanted[job_id] = None
            self._news.set()

    def read_all(self) -> None:
        """Read what is new of all watched jobs."""
        for job_id in self._view.watched():
            self.read(job_id)

    async def passing(self, job_id: str, after: Cursor) -> list[Event]:
        """Return the volatile events behind a cursor that Redis has of a job; none while it is away."""
        found: list[Event] = []
        try:
            while True:
                (page,) = await self._pages([(job_id, after)], _EVENTS)
                found += [event for event in page if not event.is_durable]
                if len(page) < _EVENTS:
                    break
                after = page[-1].cursor
        except RedisUnavailableError as error:
            _log.debug("volatile events could not be read", why=str(error))
        return found

    async def bring(self, jobs: Collection[str], seconds: float) -> bool:
        """Read all that Redis has of some watched jobs; return whether that is done, in so many seconds."""
        work = asyncio.create_task(self._read_through(list(jobs)))
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        await asyncio.wait([work], timeout=seconds)
        return work.done() and not work.cancelled() and work.result()

    async def _read_through(self, jobs: list[str]) -> bool:
        try:
            while jobs:
                some, jobs = jobs[:_AT_ONCE], jobs[_AT_ONCE:]
                jobs += await self._read(some)
        except (RedisUnavailableError, WorkflowServiceUnavailableError) as error:
            _log.debug("events could not be read; they are looked for again", why=str(error))
            return False
        return True

    async def _serve(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._wanted:
                jobs = list(self._wanted)[:_AT_ONCE]
                for job_id in jobs:
                    del self._wanted[job_id]
                try:
                    for job_id in await self._read(jobs):
                        self.read(job_id)
                except (RedisUnavailableError, WorkflowServiceUnavailableError) as error:
                    _log.debug("events could not be read; they are looked for again", why=str(error))
                except Exception as error:  # noqa: BLE001  whatever it is, the next events are read
                    _log.error("events could not be read from Redis", exc_info=error)

    async def _read(self, jobs: Sequence[str]) -> list[str]:
        """Read a page of each job; return those of which there may be more."""
        count = max(1, _EVENTS // len(jobs))
        pages = await self._pages([(job_id, self._view.last(job_id)) for job_id in jobs], count)
        for job_id, page in zip(jobs, pages, strict=True):
            if page and self._view.is_watched(job_id):
                needed = page[0].seq - page[0].is_durable
                if needed > self._view.head(job_id):
                    await self._fill(job_id, needed)
                self._view.place(job_id, page)
        return [job_id for job_id, page in zip(jobs, pages, strict=True) if len(page) == count]

    async def _pages(self, wanted: Sequence[tuple[str, Cursor]], count: int) -> list[list[Event]]:
        commands = [
            ("XRANGE", self._keys.stream(job_id), f"{after.seq}-{after.k + 1}", "+", "COUNT", count)
            for job_id, after in wanted
        ]
        answers = await self._link.commands.attempt(commands)
        return [_page(job_id, answer) for (job_id, _), answer in zip(wanted, answers, strict=True)]


def _page(job_id: str, answer: Any) -> list[Event]:
    """Return the events of an answer, up to one that is none: what follows there is read from the ledger."""
    events: list[Event] = []
    try:
        if isinstance(answer, ResponseError):
            raise answer
        for at, (_, payload) in answer:
            events.append(Event(*Cursor.parse(at.decode()), *decode_shown(payload)))
    except (ResponseError, ValueError, TypeError) as error:
        _log.error("what Redis has of a job is no events; they come from the ledger", job=job_id, why=str(error))
    return events
