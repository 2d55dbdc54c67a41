"""What a ledger does when its database fails: nothing is lost, nothing is recorded twice, nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from millstream import points
from millstream.clock import SystemClock
from millstream.errors import JobNotFoundError
from millstream.ledger.base import (
    Claim,
    FencedError,
    IdempotencyConflictError,
    LedgerUnavailableError,
    RefusedRecordError,
    Settlement,
    StorageFullError,
)
from millstream.ledger.filter import Filter
from millstream.ledger.sql import SqlLedger
from millstream.model.job import JobState
from millstream.testing.ledger_doings import SUCCEEDED, claimed, ended, fact, make_job, nobody, record, submit
from millstream.testing.proxy import HALF_OPEN, PASS, REFUSE, RESET, STALL, Fault, FaultProxy
from tests.services import PostgresServer

ME = "process-1"


@asynccontextmanager
async def opened(
    url: str, *, lease_seconds: float = 15.0, on_dead: Callable[[], None] = nobody
) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(url, SystemClock(), lease_seconds=lease_seconds)
    await ledger.join(ME, on_dead)
    try:
        yield ledger
    finally:
        await ledger.close()


async def numbers(ledger: SqlLedger, claim: Claim) -> list[int]:
    return [event.seq for event in await ledger.events(claim.job.id, 0, 1000)]


# ------------------------------------------------------------------------------------------------------------ bad items
async def test_of_a_batch_one_bad_record_fails_alone(url: str) -> None:
    async with opened(url) as ledger:
        claims = [await claimed(ledger) for _ in range(5)]
        drafts = [ended(f"n{i}" if i != 2 else "bad \udc80", i) for i in range(5)]
        told = await asyncio.gather(
            *(record(ledger, claim, draft) for claim, draft in zip(claims, drafts, strict=True)), return_exceptions=True
        )
        assert [type(answer) for answer in told] == [tuple, tuple, RefusedRecordError, tuple, tuple]
        assert [await numbers(ledger, claim) for claim in claims] == [[1, 2], [1, 2], [1], [1, 2], [1, 2]]
        assert await record(ledger, claims[2], fact("x")) == (2, [fact("x")])


async def test_of_many_submits_at_once_a_bad_one_fails_alone(url: str) -> None:
    async with opened(url) as ledger:
        jobs = [make_job(flow="good" if i != 1 else "bad \udc80") for i in range(4)]
        told = await asyncio.gather(*(submit(ledger, job, ME) for job in jobs), return_exceptions=True)
        assert [isinstance(answer, Exception) for answer in told] == [False, True, False, False]
        assert [job.id for job in await ledger.find(Filter())] == [jobs[3].id, jobs[2].id, jobs[0].id]


async def test_beside_a_bad_submit_an_alias_still_goes_to_one_job_alone(url: str) -> None:
    async with opened(url) as ledger:
        first, taken, bad, last = jobs = [make_job(flow="good" if i != 2 else "bad \udc80") for i in range(4)]
        names = [{"mine": "a"}, {"mine": "b", "fresh": "a"}, {"last": "a"}, {"last": "b"}]
        told = await asyncio.gather(
            *(submit(ledger, job, ME, **aliases) for job, aliases in zip(jobs, names, strict=True)),
            return_exceptions=True,
        )
        assert [isinstance(answer, Exception) for answer in told] == [False, True, True, False]
        assert isinstance(told[1], IdempotencyConflictError)
        assert not isinstance(told[2], IdempotencyConflictError)
        assert [job.id for job in await ledger.find(Filter())] == [last.id, first.id]
        assert await ledger.alias("mine") == (first.id, "a")
        assert await ledger.alias("last") == (last.id, "b")
        assert await ledger.alias("fresh") is None
        for job in (taken, bad):
            with pytest.raises(JobNotFoundError):
                await ledger.events(job.id, 0, 10)


async def test_a_failure_inside_a_transaction_is_made_good(url: str) -> None:
    async with opened(url) as ledger:
        claim = await claimed(ledger)
        failures = iter([True])

        def fail_once(point: str) -> None:
            if point == "in-commit" and next(failures, False):
                raise ZeroDivisionError

        points.arm(fail_once)
        try:
            assert await record(ledger, claim, fact("x")) == (2, [fact("x")])
        finally:
            points.arm(None)
        assert await numbers(ledger, claim) == [1, 2]


async def test_a_failure_after_a_commit_records_nothing_twice(url: str) -> None:
    async with opened(url) as ledger:
        claim = await claimed(ledger)

        def fail(point: str) -> None:
            if point == "after-commit":
                raise ZeroDivisionError

        points.arm(fail)
        try:
            assert await record(ledger, claim, fact("x")) == (2, [fact("x")])
        finally:
            points.arm(None)
        assert await numbers(ledger, claim) == [1, 2]


# ------------------------------------------------------------------------------------------------------------ disk full
async def test_on_a_full_disk_submits_fail_and_records_wait_for_room(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        claim = await claimed(ledger)
        await ledger._task(lambda connection: connection.run("PRAGMA max_page_count = 1"))
        waiting = asyncio.ensure_future(record(ledger, claim, fact("x" * 8000), fact("y" * 8000)))
        with pytest.raises(StorageFullError, match=r"ledger\.db"):
            await submit(ledger, make_job(inputs={"much": "x" * 8000}), None)
        assert not waiting.done()
        assert await numbers(ledger, claim) == [1]
        await ledger._task(lambda connection: connection.run("PRAGMA max_page_count = 100000"))
        assert (await asyncio.wait_for(waiting, 120))[0] == 2
        assert await numbers(ledger, claim) == [1, 2, 3]


async def test_a_ledger_that_is_about_to_be_closed_waits_only_a_little_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.ledger.sql._CLOSING_SECONDS", 0.1)
    async with opened(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        claim = await claimed(ledger)
        await ledger._task(lambda connection: connection.run("PRAGMA max_page_count = 1"))
        waiting = asyncio.ensure_future(record(ledger, claim, fact("x" * 8000), fact("y" * 8000)))
        ledger.hasten()
        with pytest.raises(FencedError, match="could not be written in time") as told:
            await asyncio.wait_for(waiting, 120)
        assert not isinstance(told.value, RefusedRecordError)
        await ledger._task(lambda connection: connection.run("PRAGMA max_page_count = 100000"))
        with pytest.raises(FencedError):  # there would be a gap before it
            await record(ledger, claim, ended("a", 1))
        assert await numbers(ledger, claim) == [1]


# ---------------------------------------------------------------------------------------------------------- no database
async def test_while_the_database_is_down_records_are_kept_and_all_else_fails_soon(
    postgres_server: PostgresServer,
) -> None:
    with postgres_server.database() as url:
        async with opened(url) as ledger:
            claim = await claimed(ledger)
            postgres_server.kill()
            waiting = asyncio.ensure_future(record(ledger, claim, ended("a", 1), end=Settlement(SUCCEEDED, result=1)))
            for doing in (submit(ledger, make_job(), ME), ledger.get(claim.job.id), ledger.find(Filter())):
                with pytest.raises(LedgerUnavailableError):
                    await asyncio.wait_for(doing, 25)
            assert not waiting.done()
            postgres_server.start()
            assert (await asyncio.wait_for(waiting, 25))[0] == 2
            assert await numbers(ledger, claim) == [1, 2, 3]
            assert (await ledger.get(claim.job.id)).state is JobState.SUCCEEDED


async def test_who_cannot_reach_the_database_for_a_lease_is_dead(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as url:
        dead = asyncio.Event()
        async with opened(url, lease_seconds=1.0, on_dead=dead.set) as ledger:
            claim = await claimed(ledger)
            postgres_server.kill()
            waiting = asyncio.ensure_future(record(ledger, claim, fact("x")))
            await asyncio.wait_for(dead.wait(), 120)
            with pytest.raises(FencedError, match="could not be written in time"):
                await waiting
        postgres_server.start()


# ----------------------------------------------------------------------------------------------- commits left in doubt
@pytest.fixture
def proxy(shared_postgres: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(shared_postgres.port) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", [HALF_OPEN, RESET], ids=["half-open", "reset"])
async def test_a_commit_that_is_not_answered_is_neither_lost_nor_made_twice(
    proxy: FaultProxy, postgres_url: str, shared_postgres: PostgresServer, fault: Fault
) -> None:
    through = postgres_url.replace(str(shared_postgres.port), str(proxy.port))
    async with opened(through) as ledger:
        claim = await claimed(ledger)
        proxy.behave_at(b"COMMIT", fault)
        waiting = asyncio.ensure_future(record(ledger, claim, ended("a", 1), fact("x")))
        await asyncio.to_thread(proxy.wait)
        proxy.behave(RESET)
        proxy.behave(PASS)
        first, kept = await asyncio.wait_for(waiting, 120)
        assert (first, kept) == (2, [ended("a", 1), fact("x")])
        assert await record(ledger, claim, ended("a", 2), fact("y")) == (4, [fact("y")])
        assert await numbers(ledger, claim) == [1, 2, 3, 4]


@pytest.mark.parametrize("fault", [HALF_OPEN, STALL], ids=["half-open", "stall"])
async def test_of_a_database_that_answers_nobody_all_who_ask_are_told_so_in_time_and_records_are_kept(
    proxy: FaultProxy, postgres_url: str, shared_postgres: PostgresServer, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = postgres_url.replace(str(shared_postgres.port), str(proxy.port))
    async with opened(through) as ledger:
        claim = await claimed(ledger)
        job = claim.job.id
        monkeypatch.setattr(ledger.database, "patience_seconds", 0.5)
        proxy.behave(fault)
        waiting = asyncio.ensure_future(record(ledger, claim, ended("a", 1)))
        asked = [*(ledger.get(job) for _ in range(8)), submit(ledger, make_job(), ME), ledger.cancel(job, [])]
        for told in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(told, LedgerUnavailableError)
            assert str(told) == "the ledger did not answer within 0.5 s"
        assert not waiting.done()
        proxy.behave(RESET)
        proxy.behave(PASS)
        assert await asyncio.wait_for(waiting, 120) == (2, [ended("a", 1)])
        monkeypatch.undo()
        assert await numbers(ledger, claim) == [1, 2]


@pytest.mark.parametrize("fault", [HALF_OPEN, RESET], ids=["half-open", "reset"])
async def test_one_leaves_in_order_right_after_a_commit_that_is_not_answered(
    proxy: FaultProxy, postgres_url: str, shared_postgres: PostgresServer, fault: Fault
) -> None:
    through = postgres_url.replace(str(shared_postgres.port), str(proxy.port))
    async with opened(through) as ledger:
        claim = await claimed(ledger)
        proxy.behave_at(b"COMMIT", fault)
        waiting = asyncio.ensure_future(record(ledger, claim, ended("a", 1)))
        await asyncio.to_thread(proxy.wait)
        proxy.behave(RESET)
        proxy.behave(PASS)
        await asyncio.wait_for(waiting, 120)
        await ledger.leave(ME)
        assert await ledger.members() == 0


async def test_a_connection_that_broke_while_nobody_used_it_is_replaced(
    proxy: FaultProxy, postgres_url: str, shared_postgres: PostgresServer
) -> None:
    through = postgres_url.replace(str(shared_postgres.port), str(proxy.port))

    def break_it() -> None:
        proxy.behave(RESET)
        proxy.behave(PASS)

    async with opened(through) as ledger:
        break_it()
        _, claim = await submit(ledger, make_job(), ME)
        assert claim is not None
        break_it()
        assert (await record(ledger, claim, fact("x")))[0] == 2
        break_it()
        await ledger.cancel(claim.job.id, [])
        break_it()
        await ledger.leave(ME)
        assert await ledger.members() == 0
        break_it()
        await ledger.join(ME, nobody)
        assert await ledger.members() == 1


async def test_one_that_joins_a_second_time_is_the_member_that_it_is(url: str) -> None:
    async with opened(url) as ledger:
        await ledger.join(ME, nobody)
        assert await ledger.members() == 1
        await ledger.leave(ME)
        assert await ledger.members() == 0


async def test_a_refused_connection_says_which_ledger_and_not_with_what_password(proxy: FaultProxy) -> None:
    proxy.behave(REFUSE)
    ledger = SqlLedger(f"postgres://me:secret@127.0.0.1:{proxy.port}/mine", SystemClock())
    with pytest.raises(LedgerUnavailableError, match=r"me:\*\*\*@127.0.0.1:\d+/mine cannot be reached") as refused:
        await ledger.open()
    assert "secret" not in str(refused.value)
    await ledger.close()
