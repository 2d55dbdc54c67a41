"""One process's part in an event log in Redis, without the rest of a process: for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Self, cast

from millstream.clock import SystemClock
from millstream.events.memory import MemoryEventLog
from millstream.events.redis.follow import RedisTail
from millstream.events.redis.link import Bounds
from millstream.events.redis.log import RedisEventLog
from millstream.events.redis.transport import Transport
from millstream.events.tail import Tail
from millstream.ledger.base import SharedLedger
from millstream.model.event import Draft
from millstream.testing.contract_events import RecordedEvents


class Early(SystemClock):
    """Says that the suite's events, which happened at three seconds past the epoch, happen now."""

    def now(self) -> float:
        return 3.0


class Part(RedisEventLog):
    """One process's part in an event log in Redis, over a ledger that is only told what is durable."""

    def __init__(self, url: str, recorded: RecordedEvents, ttl_seconds: int = 60, bounds: Bounds | None = None) -> None:
        self.view = MemoryEventLog(must_keep=lambda _: False)
        super().__init__(self.view, lambda _: False)
        ledger = cast("SharedLedger", recorded)
        tail = Tail(ledger, self.view, lambda _: False)
        self.transport = Transport(url, "tests", ttl_seconds, self.view, recorded.events, tail, bounds)
        self.tail = RedisTail(tail, ledger, self.view, self.transport, Early())
        self.carry(self.transport.outgoing)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Self]:
        await self.transport.start()
        following = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await self.transport.stop()

    async def _follow(self) -> None:
        while True:
            await self.tail.follow()


class Parts:
    """Several processes' parts in one event log, over one ledger."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.recorded = RecordedEvents()
        self._stack = stack

    async def part(self, url: str, ttl_seconds: int = 60, bounds: Bounds | None = None) -> Part:
        part = Part(url, self.recorded, ttl_seconds, bounds)
        part.tail._clock = SystemClock()
        return await self._stack.enter_async_context(part.started())

    def put(self, part: Part, job: str, first: int, *drafts: Draft, attempt: int = 1, segment: int = 1) -> None:
        """Append as a process does: what is durable is recorded first."""
        self.recorded.record(job, first, drafts)
        part.append(job, first, drafts, attempt, segment)
