"""Accounts and stored flows on a database that is down, full, or does not answer a commit."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from millstream.clock import SystemClock
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.ledger.sql import SqlLedger
from millstream.testing.proxy import HALF_OPEN, PASS, RESET, Fault, FaultProxy
from millstream.testing.server_doings import make_flow, make_key, make_session, make_user
from tests.services import PostgresServer


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(url, SystemClock())
    try:
        yield ledger
    finally:
        await ledger.close()


async def test_while_the_database_is_down_all_fails_soon_and_then_goes_on(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as url:
        async with opened(url) as ledger:
            accounts, flows, user = ledger.accounts, ledger.flow_store, make_user("ada")
            session, key, flow = make_session(user), make_key(user), make_flow(user)
            await accounts.add_user(user)
            await accounts.begin([session])
            await accounts.add_key(key)
            await flows.add(flow)
            postgres_server.kill()
            for doing in (
                accounts.session(session.digest),
                accounts.key(key.id),
                accounts.take("bucket", 1, 60.0),
                accounts.change_user(user.id, is_active=False),
                flows.version_of(flow.id, user.id),
                flows.replace(flow, 1),
            ):
                with pytest.raises(LedgerUnavailableError):
                    await asyncio.wait_for(doing, 60)
            postgres_server.start()
            assert await accounts.session(session.digest) == (session, user)
            assert await accounts.take("bucket", 1, 60.0) == 0.0
            assert (await flows.replace(flow, 1)).version == 2


@pytest.fixture
def proxy(shared_postgres: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(shared_postgres.port) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", [HALF_OPEN, RESET], ids=["half-open", "reset"])
async def test_a_commit_that_is_not_answered_is_neither_lost_nor_made_twice(
    proxy: FaultProxy, postgres_url: str, shared_postgres: PostgresServer, fault: Fault
) -> None:
    user = make_user("ada")
    flow, old, new = make_flow(user), make_session(user, kind="refresh"), make_session(user)
    async with opened(postgres_url.replace(str(shared_postgres.port), str(proxy.port))) as ledger:
        accounts, flows = ledger.accounts, ledger.flow_store
        await accounts.add_user(user)
        await accounts.begin([old])
        for doing, answer in (
            (flows.add(flow), None),
            (accounts.renew(old.digest, [new]), True),
            (accounts.take("bucket", 2, 3600.0), 0.0),
            (flows.remove(flow.id, user.id, 1), None),
        ):
            proxy.behave_at(b"COMMIT", fault)
            waiting = asyncio.ensure_future(doing)
            await asyncio.to_thread(proxy.wait)
            proxy.behave(RESET)
            proxy.behave(PASS)
            assert await asyncio.wait_for(waiting, 120) == answer
        assert await accounts.session(new.digest) == (new, user)
        assert await flows.flows(user.id) == []
        assert [await accounts.take("bucket", 2, 3600.0) == 0.0 for _ in range(2)] == [True, False]


async def test_on_a_full_disk_nothing_is_half_done_and_what_is_there_is_read(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        accounts, flows, user = ledger.accounts, ledger.flow_store, make_user("ada")
        flow, session = make_flow(user), make_session(user)
        await accounts.add_user(user)
        await accounts.begin([session])
        await flows.add(flow)
        await ledger._task(lambda connection: connection.run("PRAGMA max_page_count = 1"))
        large = {"nodes": [{"id": "a", "data": {"text": "x" * 500_000}}], "edges": []}
        for doing in (flows.replace(replace(flow, data=large), 1), flows.add(make_flow(user, "another", data=large))):
            with pytest.raises(StorageFullError, match=r"ledger\.db"):
                await doing
        assert await accounts.session(session.digest) == (session, user)
        assert await flows.get(flow.id, user.id) == flow
        await ledger._task(lambda connection: connection.run("PRAGMA max_page_count = 100000"))
        assert (await flows.replace(replace(flow, data=large), 1)).data == large
