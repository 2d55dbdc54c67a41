"""The ledger in a database keeps the ledger's promises, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from millstream.clock import Clock
from millstream.ledger.base import Ledger
from millstream.ledger.sql import SqlLedger
from millstream.testing import LedgerContract
from millstream.testing.ledger_doings import CLAIMERS


class TestSqliteLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def in_directory(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncIterator[Ledger]:
        ledger = SqlLedger(self.url, clock)
        for process in CLAIMERS:
            await ledger.join(process, lambda: None)
        yield ledger
        await ledger.close()
