"""The ledger in a database keeps the ledger's promises, on SQLite and on PostgreSQL."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from millstream.clock import Clock
from millstream.errors import DefinitionError
from millstream.ledger.base import Ledger, SharedLedger
from millstream.ledger.items import Task
from millstream.ledger.sql import SqlLedger
from millstream.testing import LedgerContract, SharedLedgerContract
from millstream.testing.ledger_doings import make_job, nobody, submit


class OnSqlite:
    @pytest.fixture(autouse=True)
    def in_file(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"


class OnPostgres:
    @pytest.fixture(autouse=True)
    def in_database(self, postgres_url: str) -> None:
        self.url = postgres_url


class Alone(LedgerContract):
    url: str

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncIterator[Ledger]:
        ledger = SqlLedger(self.url, clock)
        try:
            yield ledger
        finally:
            await ledger.close()

    async def join(self, ledger: Ledger, process: str) -> None:
        assert isinstance(ledger, SqlLedger)
        await ledger.join(process, nobody)

    @pytest.mark.parametrize("key", ["a\0b", "a\udcff"], ids=["nul", "surrogate"])
    async def test_a_key_that_no_database_takes_is_refused(self, ledger: Ledger, key: str) -> None:
        with pytest.raises(DefinitionError, match="idempotency key"):
            await submit(ledger, make_job(idempotency_key=key), None)


class Shared(SharedLedgerContract):
    url: str

    @asynccontextmanager
    async def open(self, clock: Clock, lease_seconds: float) -> AsyncIterator[SharedLedger]:
        ledger = SqlLedger(self.url, clock, lease_seconds=lease_seconds)
        try:
            yield ledger
        finally:
            await ledger.close()

    @contextmanager
    def silenced(self, ledger: SharedLedger) -> Iterator[None]:
        assert isinstance(ledger, SqlLedger)
        gate = threading.Event()
        ledger._parts.writer.put(Task(lambda _: gate.wait()))
        try:
            yield
        finally:
            gate.set()


class TestSqliteLedger(OnSqlite, Alone):
    pass


class TestPostgresLedger(OnPostgres, Alone):
    pass


class TestSharedSqliteLedger(OnSqlite, Shared):
    pass


class TestSharedPostgresLedger(OnPostgres, Shared):
    pass
