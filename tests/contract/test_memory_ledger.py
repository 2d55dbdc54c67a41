"""The ledger in memory keeps the ledger's promises."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millstream.clock import Clock
from millstream.ledger.base import Ledger
from millstream.ledger.memory import MemoryLedger
from millstream.testing import LedgerContract


class TestMemoryLedger(LedgerContract):
    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncIterator[Ledger]:
        yield MemoryLedger(clock)
