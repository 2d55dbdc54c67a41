"""Accounts and stored flows in a database keep what is promised of them, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from millstream.clock import Clock
from millstream.ledger.base import SharedLedger
from millstream.ledger.sql import SqlLedger
from millstream.testing import AccountsContract, FlowStoreContract


class InDatabase:
    url: str

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncIterator[SharedLedger]:
        ledger = SqlLedger(self.url, clock)
        try:
            yield ledger
        finally:
            await ledger.close()


class OnSqlite(InDatabase):
    @pytest.fixture(autouse=True)
    def in_file(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"


class OnPostgres(InDatabase):
    @pytest.fixture(autouse=True)
    def in_database(self, postgres_url: str) -> None:
        self.url = postgres_url


class TestAccountsOnSqlite(OnSqlite, AccountsContract):
    pass


class TestAccountsOnPostgres(OnPostgres, AccountsContract):
    pass


class TestFlowStoreOnSqlite(OnSqlite, FlowStoreContract):
    pass


class TestFlowStoreOnPostgres(OnPostgres, FlowStoreContract):
    pass
