"""Submitting in a user's own transaction, and answering before the commit where a job allows it."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from millstream import points
from millstream.clock import SystemClock
from millstream.errors import DefinitionError
from millstream.ledger import forgetting, sqlite
from millstream.ledger.base import FencedError, IdempotencyConflictError, JobGraph, Pause, Settlement
from millstream.ledger.database import KeyHeldError
from millstream.ledger.filter import Filter
from millstream.ledger.maintenance import Keeper
from millstream.ledger.sql import SqlLedger
from millstream.model.job import JobRecord, JobState
from millstream.testing.ledger_doings import (
    GRAPH,
    PLANNED,
    SUCCEEDED,
    claimed,
    ended,
    fact,
    make_job,
    nobody,
    passing,
    record,
    submit,
)
from tests.services import PostgresServer

ME = "process-1"


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(url, SystemClock())
    await ledger.join(ME, nobody)
    yield ledger
    await ledger.close()


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE mine (n int)"))
    yield engine
    engine.dispose()


def submit_in(ledger: SqlLedger, connection: sa.Connection, job: JobRecord, **aliases: str) -> JobRecord:
    return ledger.submit_in(connection, job, JobGraph(GRAPH, ["x" * 20_000, 2], aliases), [PLANNED])


# ------------------------------------------------------------------------------------------------- a user's transaction
async def test_a_job_is_there_when_the_users_transaction_is_committed(ledger: SqlLedger, engine: sa.Engine) -> None:
    job = make_job(queue="heavy")
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO mine VALUES (1)"))
        assert submit_in(ledger, connection, job) == job
        assert await ledger.find(Filter()) == []
        assert await ledger.claim(ME, 10) == []
    assert await ledger.claim(ME, 10, queues=[None]) == []
    (claim,) = await ledger.claim(ME, 10, queues=["heavy"])
    assert (claim.job.id, claim.head, claim.queue) == (job.id, 1, "heavy")
    assert list((await ledger.graph(job.id)).bindings) == ["x" * 20_000, 2]


async def test_a_job_is_not_there_when_the_users_transaction_is_taken_back(
    ledger: SqlLedger, engine: sa.Engine
) -> None:
    with engine.connect() as connection:
        submit_in(ledger, connection, make_job(idempotency_key="k"))
        connection.rollback()
    assert await ledger.find(Filter()) == []
    job = make_job(idempotency_key="k")
    assert await submit(ledger, job, None) == (job, None)


async def test_a_job_for_later_waits_for_its_time_in_a_users_transaction_too(
    ledger: SqlLedger, engine: sa.Engine
) -> None:
    job = make_job(state=JobState.SCHEDULED, starts_at=4e9)
    with engine.begin() as connection:
        submit_in(ledger, connection, job)
    assert await ledger.claim(ME, 10) == []
    assert await ledger.due_at() == 4e9


async def test_a_known_key_gives_its_job_in_a_users_transaction_too(ledger: SqlLedger, engine: sa.Engine) -> None:
    first = make_job(idempotency_key="k")
    await submit(ledger, first, None)
    with engine.begin() as connection:
        assert submit_in(ledger, connection, make_job(idempotency_key="k")).id == first.id
        with pytest.raises(IdempotencyConflictError):
            submit_in(ledger, connection, make_job(idempotency_key="k", flow="another"))
    assert [job.id for job in await ledger.find(Filter())] == [first.id]


async def test_aliases_and_the_parent_are_there_when_the_users_transaction_is_committed(
    ledger: SqlLedger, engine: sa.Engine
) -> None:
    job = make_job(parent="another.a")
    with engine.begin() as connection:
        submit_in(ledger, connection, job, mine="a", other="b")
        assert await ledger.alias("mine") is None
    assert await ledger.alias("mine") == (job.id, "a")
    assert await ledger.alias("other") == (job.id, "b")
    assert await ledger.get(job.id) == job
    with engine.connect() as connection:
        submit_in(ledger, connection, make_job(), third="a")
        connection.rollback()
    assert await ledger.alias("third") is None


async def test_a_taken_alias_refuses_a_job_whole_and_leaves_the_users_transaction_as_it_was(
    ledger: SqlLedger, engine: sa.Engine
) -> None:
    first, same, last = make_job(), make_job(), make_job(idempotency_key="k")
    await submit(ledger, first, None, mine="a")
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO mine VALUES (1)"))
        with pytest.raises(IdempotencyConflictError, match=rf"'mine'.*{first.id}"):
            submit_in(ledger, connection, make_job(idempotency_key="k"), fresh="a", mine="b")
        submit_in(ledger, connection, same, again="a")
        with pytest.raises(IdempotencyConflictError, match=rf"'again'.*{same.id}"):
            submit_in(ledger, connection, make_job(), again="a")
        assert submit_in(ledger, connection, last, fresh="b") == last
    assert [job.id for job in await ledger.find(Filter())] == [last.id, same.id, first.id]
    assert await ledger.alias("mine") == (first.id, "a")
    assert await ledger.alias("fresh") == (last.id, "b")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM mine")).scalar_one() == 1
    assert Keeper(str(engine.url.render_as_string(hide_password=False))).check().problems == []


async def test_an_alias_that_a_users_transaction_commits_meanwhile_is_taken(postgres_url: str) -> None:
    ledger = SqlLedger(postgres_url, SystemClock())
    await ledger.open()
    engine = sa.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    mine = make_job()
    with engine.begin() as connection:
        submit_in(ledger, connection, mine, mine="a")
        submitting = asyncio.ensure_future(submit(ledger, make_job(), None, mine="b"))
        await asyncio.wait_for(_somebody_waits_for_a_lock(engine), 120)
    with pytest.raises(IdempotencyConflictError, match=mine.id):
        await submitting
    assert await ledger.alias("mine") == (mine.id, "a")
    engine.dispose()
    await ledger.close()


async def _somebody_waits_for_a_lock(engine: sa.Engine) -> None:
    asked = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%alias%'")
    with engine.connect() as connection:
        while not connection.execute(asked).scalar_one():
            connection.rollback()  # what it sees is of the beginning of its transaction
            await asyncio.sleep(0.005)


async def test_a_job_without_aliases_does_not_touch_their_table(ledger: SqlLedger, engine: sa.Engine) -> None:
    await ledger.open()
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE millstream_alias RENAME TO elsewhere"))
    job = make_job()
    await submit(ledger, make_job(), ME)
    with engine.begin() as connection:
        submit_in(ledger, connection, job)
    assert (await ledger.get(job.id)).id == job.id


async def test_transactions_with_new_graphs_wait_neither_for_one_another_nor_keep_the_ledger_waiting(
    url: str, ledger: SqlLedger, engine: sa.Engine
) -> None:
    one, two = "g-one", "g-two"
    jobs = [make_job(graph=graph) for graph in (one, two, two, one)]
    with ExitStack() as stack:
        connections = [stack.enter_context(engine.begin())]
        if url.startswith("postgresql"):  # SQLite has one writer at a time
            connections.append(stack.enter_context(engine.begin()))
        for connection in connections:
            connection.execute(sa.text("SET lock_timeout = '2s'")) if url.startswith("postgresql") else None
        for job, connection in zip(jobs, [connections[0], connections[-1]] * 2, strict=True):
            ledger.submit_in(connection, job, JobGraph(GRAPH, [1, 2]), [PLANNED])
        if url.startswith("postgresql"):
            await asyncio.wait_for(submit(ledger, make_job(graph=one), None), 5)
    claims = {claim.job.id: claim.job for claim in await ledger.claim(ME, 10)}
    for job in jobs:
        assert claims[job.id].graph == job.graph
        assert (await ledger.graph(job.id)).graph == GRAPH
        assert (await ledger.get(job.id)).graph == job.graph


@pytest.mark.parametrize(("key", "aliases"), [("k", {}), (None, {"mine": "a"})], ids=["key", "alias"])
async def test_a_key_or_an_alias_in_an_open_transaction_holds_up_its_own_submits_alone(
    postgres_url: str, key: str | None, aliases: dict[str, str]
) -> None:
    ledger = SqlLedger(postgres_url, SystemClock())
    await ledger.join(ME, nobody)
    claim = await claimed(ledger)
    engine = sa.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        mine = submit_in(ledger, connection, make_job(idempotency_key=key), **aliases)
        jobs = [make_job(idempotency_key=key), make_job(idempotency_key="another")]
        held, other, told = await asyncio.gather(
            submit(ledger, jobs[0], None, **aliases),
            submit(ledger, jobs[1], None, another="a"),
            record(ledger, claim, fact("x")),
            return_exceptions=True,
        )
    assert isinstance(held, KeyHeldError)
    assert other == (jobs[1], None)
    assert told == (2, [fact("x")])
    assert sorted(job.id for job in await ledger.find(Filter())) == sorted([mine.id, jobs[1].id, claim.job.id])
    engine.dispose()
    await ledger.close()


async def test_the_graph_of_a_job_from_a_users_transaction_goes_with_it(ledger: SqlLedger, engine: sa.Engine) -> None:
    for _ in range(2):
        with engine.begin() as connection:
            submit_in(ledger, connection, make_job())
    for claim in await ledger.claim(ME, 10):
        await record(ledger, claim, end=Settlement(SUCCEEDED))
        await ledger.forget([claim.job.id])
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM millstream_graph")).scalar_one() == 0


async def test_to_see_whose_connection_it_is_none_is_opened(
    ledger: SqlLedger, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.find(Filter())
    monkeypatch.setattr(ledger.database, "connect", None)
    with engine.begin() as connection:
        submit_in(ledger, connection, make_job())


async def test_a_connection_to_a_database_without_a_ledger_is_refused_and_stays_usable(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    ledger = SqlLedger(postgres_url, SystemClock())
    await ledger.open()
    with postgres_server.database() as other:
        engine = sa.create_engine(other.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
        with engine.begin() as connection:
            with pytest.raises(DefinitionError, match="another database"):
                submit_in(ledger, connection, make_job())
            assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
        engine.dispose()
    await ledger.close()


async def test_a_connection_to_another_database_is_refused(ledger: SqlLedger, tmp_path: Path) -> None:
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.db", poolclass=NullPool)
    with other.connect() as connection, pytest.raises(DefinitionError, match="another database"):
        submit_in(ledger, connection, make_job())
    other.dispose()


# -------------------------------------------------------------------------------------------------- relaxed durability
async def test_a_relaxed_record_is_answered_at_once_with_the_numbers_that_it_gets(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, durability="relaxed")
    told: list[object] = []
    ledger.record(claim, [ended("a", 1), passing("p")], None, lambda *answer: told.append(answer))
    ledger.record(claim, [ended("a", 2), fact("x")], None, lambda *answer: told.append(answer))
    assert told == [(2, [ended("a", 1), passing("p")]), (3, [fact("x")])]
    first, _ = await record(ledger, claim, ended("b", 1), end=Settlement(SUCCEEDED, result=1))
    assert first == 4
    events = await ledger.events(claim.job.id, 0, 10)
    assert [event.type for event in events] == ["planned", "node_succeeded", "x", "node_succeeded", "ended"]


async def test_once_a_node_waits_a_relaxed_record_is_numbered_after_what_others_answered(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, durability="relaxed")
    waits = (True, "waiting", 3.0, "a", {"reason": "approval"})
    assert (await record(ledger, claim, fact("x"), waits))[0] == 2
    assert await ledger.answer(claim.job.id, "a", [(True, "answered", 4.0, "a", {"answer": 1})]) == 4
    assert (await record(ledger, claim, fact("y")))[0] == 5


async def test_a_relaxed_job_that_another_took_over_is_fenced(ledger: SqlLedger) -> None:
    claim = await claimed(ledger, durability="relaxed")
    await record(ledger, claim, end=Pause("shutdown", None, 1))
    await ledger.claim(ME, 1)

    async def go_on() -> None:
        for _ in range(100):
            await record(ledger, claim, fact("late"))
            await asyncio.sleep(0.01)

    with pytest.raises(FencedError):
        await go_on()


# ------------------------------------------------------------------------------------------------ opening and forking
async def test_the_log_grows_beside_anybodys_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{path}", SystemClock())
    await ledger.join(ME, nobody)
    is_over = threading.Event()

    def write() -> int:
        count = 0
        with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as mine:
            mine.execute("CREATE TABLE mine (n int)")
            while not is_over.is_set():
                mine.execute("INSERT INTO mine VALUES (1)")
                count += 1
                is_over.wait(0.002)  # without a pause SQLite gives nobody else a turn
        return count

    writing = asyncio.ensure_future(asyncio.to_thread(write))
    for size in range(1, 60):
        monkeypatch.setattr(sqlite, "_LOG_BYTES", size << 16)
        await ledger._task(lambda connection: connection.settle_in())
        await submit(ledger, make_job(), None)
    is_over.set()
    written = await writing
    with closing(sqlite3.connect(path)) as mine:
        assert mine.execute("SELECT count(*) FROM mine").fetchone() == (written,)
        assert mine.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(await ledger.find(Filter(limit=100))) == 59
    await ledger.close()


async def test_a_ledger_is_closed_twice_and_before_it_was_opened_and_opened_again(url: str) -> None:
    ledger = SqlLedger(url, SystemClock())
    await ledger.close()
    await ledger.close()
    await ledger.open()
    await ledger.close()
    await ledger.close()
    assert await ledger.find(Filter()) == []
    await ledger.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_forked_child_opens_its_own_connections_and_harms_none_of_its_parents(ledger: SqlLedger) -> None:
    claim = await claimed(ledger)
    child = os.fork()
    if child == 0:
        code = 1
        try:

            async def use() -> bool:
                await ledger.join("child", nobody)
                job = make_job()
                await submit(ledger, job, "child")
                found = (await ledger.get(job.id)).state is JobState.RUNNING
                await ledger.close()
                return found

            loop = asyncio.new_event_loop()
            asyncio._set_running_loop(None)
            code = 0 if loop.run_until_complete(use()) else 2
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await record(ledger, claim, fact("x")) == (2, [fact("x")])
    assert len(await ledger.find(Filter())) == 2


# ----------------------------------------------------------------------------------------------------------- forgetting
async def test_jobs_with_many_events_are_forgotten_in_transactions_of_their_own(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_EVENTS", 10)
    claims = [await claimed(ledger) for _ in range(6)]
    for number, claim in enumerate(claims):
        await record(ledger, claim, *[fact("x")] * (20 if number == 2 else 2), end=Settlement(SUCCEEDED))
    reached: list[str] = []
    points.arm(reached.append)
    try:
        forgotten = await ledger.forget([claim.job.id for claim in claims])
    finally:
        points.arm(None)
    assert sorted(forgotten) == sorted(claim.job.id for claim in claims)
    assert reached.count("retention") >= 4
    assert await ledger.find(Filter()) == []
