"""The ledger in a database keeps the ledger's promises, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from millstream.clock import Clock
from millstream.ledger.base import Ledger
from millstream.ledger.sql import SqlLedger
from millstream.testing import LedgerContract
from millstream.testing.ledger_doings import CLAIMERS


@asynccontextmanager
async def with_members(url: str, clock: Clock) -> AsyncIterator[Ledger]:
    """A ledger whose members are all who claim in the suite."""
    ledger = SqlLedger(url, clock)
    for process in CLAIMERS:
        await ledger.join(process, lambda: None)
    try:
        yield ledger
    finally:
        await ledger.close()


class TestSqliteLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def in_file(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"

    def open(self, clock: Clock) -> AbstractAsyncContextManager[Ledger]:
        return with_members(self.url, clock)


class TestPostgresLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def in_database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def open(self, clock: Clock) -> AbstractAsyncContextManager[Ledger]:
        return with_members(self.url, clock)
