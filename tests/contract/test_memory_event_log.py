"""The event log in memory keeps the event log's promises."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millstream.events.base import EventLog
from millstream.events.memory import MemoryEventLog
from millstream.testing import EventLogContract


class TestMemoryEventLog(EventLogContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[EventLog]:
        yield MemoryEventLog()
