"""The event log in Redis keeps the event log's promises."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.events.base import EventLog
from millstream.testing import EventLogContract
from tests.redis_parts import Part


class TestRedisEventLog(EventLogContract):
    is_told_at_once = False

    @pytest.fixture(autouse=True)
    def server(self, valkey_url: str) -> None:
        self.url = valkey_url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[EventLog]:
        async with Part(self.url, self.recorded).started() as part:
            yield part
