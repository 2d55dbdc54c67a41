"""Two ledgers behind one face keep the ledger's promises, whichever of them has the job."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from millstream.clock import Clock, SystemClock
from millstream.errors import JobNotFoundError
from millstream.ledger.base import Done, IdempotencyConflictError, Ledger, Pause, Settlement
from millstream.ledger.bell import Topic
from millstream.ledger.filter import Filter
from millstream.ledger.memory import MemoryLedger
from millstream.ledger.sql import SqlLedger
from millstream.ledger.tiered import TieredLedger
from millstream.model.job import JobRecord, JobState
from millstream.testing import LedgerContract
from millstream.testing.ledger_doings import (
    ME,
    claimed,
    ended,
    fact,
    handed_out,
    make_job,
    nobody,
    record,
    submit,
    taken_back,
)


class Rung:
    """A bell that says what was rung."""

    def __init__(self) -> None:
        self.rung: list[tuple[Topic, str]] = []
        self.queues: list[str | None] = []

    def ring(self, topic: Topic, job_id: str, queue: str | None = None) -> None:
        self.rung.append((topic, job_id))
        self.queues.append(queue)

    async def listen(self, heard: Any) -> None:
        """Hear nothing."""

    async def close(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def tiered(path: Path, clock: Clock, bell: Rung | None = None) -> AsyncIterator[tuple[TieredLedger, SqlLedger]]:
    shared = SqlLedger(f"sqlite:///{path}/ledger.db", clock)
    ledger = TieredLedger(MemoryLedger(clock))
    ledger.share(shared, bell)
    try:
        yield ledger, shared
    finally:
        await shared.close()


class TestTieredLedgerWithDurableJobs(LedgerContract):
    @pytest.fixture(autouse=True)
    def in_directory(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncIterator[Ledger]:
        async with tiered(self.path, clock) as (ledger, self.shared):
            yield ledger

    async def join(self, ledger: Ledger, process: str) -> None:  # noqa: ARG002
        await self.shared.join(process, nobody)


def off(**fields: Any) -> JobRecord:
    return make_job(durability="off", **fields)


async def test_jobs_of_both_are_found_claimed_and_listed_as_one(tmp_path: Path) -> None:
    async with tiered(tmp_path, SystemClock()) as (ledger, shared):
        await shared.join(ME, nobody)
        jobs = [make_job(), off(), make_job(), off()]
        for job in jobs:
            await submit(ledger, job, None)
        assert [found.id for found in await ledger.find(Filter())] == [job.id for job in reversed(jobs)]
        assert [found.id for found in await ledger.find(Filter(limit=3))] == [job.id for job in reversed(jobs[1:])]
        claims = await ledger.claim(ME, 10)
        assert {claim.job.id for claim in claims} == {job.id for job in jobs}
        assert {job.id for job in jobs if job.id in ledger.memory} == {jobs[1].id, jobs[3].id}


async def test_what_lives_in_memory_never_reaches_the_file(tmp_path: Path) -> None:
    bell = Rung()
    async with tiered(tmp_path, SystemClock(), bell) as (ledger, shared):
        await shared.join(ME, nobody)
        claim = await claimed(ledger, durability="off")
        ledger.record(claim, [], Settlement(JobState.SUCCEEDED, result=1), lambda _first, _kept: None)
    assert bell.rung == []
    file = SqlLedger(f"sqlite:///{tmp_path}/ledger.db", SystemClock())
    with pytest.raises(JobNotFoundError):
        await file.get(claim.job.id)
    await file.close()


@pytest.mark.parametrize(("has", "wants"), [("full", "off"), ("off", "full"), ("off", "off"), ("full", "full")])
async def test_an_alias_has_one_job_of_both(tmp_path: Path, has: str, wants: str) -> None:
    async with tiered(tmp_path, SystemClock()) as (ledger, shared):
        await shared.join(ME, nobody)
        first = make_job(durability=has)
        await submit(ledger, first, None, mine="a")
        with pytest.raises(IdempotencyConflictError, match=rf"'mine'.*{first.id}"):
            await submit(ledger, make_job(durability=wants), None, fresh="a", mine="b")
        assert await ledger.find(Filter()) == [first]
        assert await ledger.alias("mine") == (first.id, "a")
        assert await ledger.alias("fresh") is None


async def test_one_nodes_result_is_read_where_its_job_is(tmp_path: Path) -> None:
    async with tiered(tmp_path, SystemClock()) as (ledger, shared):
        await shared.join(ME, nobody)
        for durability in ("off", "full"):
            claim = await claimed(ledger, durability=durability)
            await record(ledger, claim, ended("a", durability))
            found = await ledger.node_result(claim.job.id, "a")
            assert found is not None
            assert found.value == durability


async def test_others_are_woken_for_what_may_concern_them(tmp_path: Path) -> None:
    bell = Rung()
    async with tiered(tmp_path, SystemClock(), bell) as (ledger, shared):
        await shared.join(ME, nobody)
        mine = await claimed(ledger)
        assert bell.rung == []
        await ledger.cancel(mine.job.id, [])
        assert bell.rung == [("changed", mine.job.id)]
        queued = make_job()
        await submit(ledger, queued, None)
        assert bell.rung[1:] == [("queued", queued.id)]
        await ledger.cancel(queued.id, [(True, "ended", 1.0, None, {"state": "cancelled", "reason": "cancel"})])
        assert bell.rung[2:] == [("ended", queued.id)]


async def test_others_are_woken_for_what_is_handed_out_and_for_what_comes_of_it(tmp_path: Path) -> None:
    bell = Rung()
    heard: list[tuple[Topic, str]] = []
    async with tiered(tmp_path, SystemClock(), bell) as (ledger, shared):
        ledger.heard = lambda topic, job_id: heard.append((topic, job_id))
        await shared.join(ME, nobody)
        main = await claimed(ledger, queue="mine")
        job_id = main.job.id

        async def rings(*told: tuple[Topic, str | None]) -> None:
            expected = [(topic, job_id) for topic, _ in told]
            assert (bell.rung, bell.queues) == (expected, [queue for _, queue in told])
            assert heard == expected
            for known in (bell.rung, bell.queues, heard):
                known.clear()

        sealed = ledger.seal(main.job, {"segment": 2, "queue": "heavy", "nodes": [{"path": "a", "args": ["x" * 9000]}]})
        await record(ledger, main, fact("handed_out", None, sealed), handed_out(3, "b"), handed_out(4, "c"))
        await rings(("queued", "heavy"), ("queued", None), ("queued", None))
        two, three, _ = await ledger.claim(ME, 10)
        await record(ledger, two, fact("x"))
        await rings()
        await record(ledger, two, ended("a", 1))
        await rings(("changed", None))
        await record(ledger, two, end=Pause("shutdown", None, 9))
        await rings(("queued", "heavy"))
        await record(ledger, main, taken_back(4), end=Pause("handed_out", None, 9))
        await rings(("changed", None), ("queued", "mine"))
        await record(ledger, three, ended("b", 1), end=Done())
        await rings(("changed", None), ("queued", "mine"))
