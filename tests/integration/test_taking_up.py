"""Taking a job up: only with its code, only by who holds it, and on nothing that is not recorded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from millstream import Decision, Flow, Job, JobState, Millstream, Settings, flow, task
from millstream.ledger.base import Claim, FencedError, JobGraph, Pause, Recorded, Settlement
from millstream.ledger.sql import SqlLedger
from millstream.model.event import Draft

ran: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Millstream]:
    async with Millstream(settings=Settings(config_dir=tmp_path)) as app:
        yield app


@task
async def note(name: str, *_: Any) -> str:
    ran.append(name)
    return name


@task(effect="pure")
async def note_purely(name: str, *_: Any) -> str:
    ran.append(name)
    return name


@task(effect="once", timeout=0.05)
async def pay() -> str:
    ran.append("pay")
    if ran.count("pay") == 1:
        await asyncio.Event().wait()
    return "paid"


@flow
def of_both_kinds() -> Any:
    return note("last", note("first"), note_purely("pure"))


@flow
async def race_of_both_kinds() -> Any:
    calls = [asyncio.ensure_future(note("first")), asyncio.ensure_future(note_purely("pure"))]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    return [call.result() for call in calls if call in done]


@flow
def payment() -> Any:
    return pay()


async def reaches(job: Job, state: JobState) -> None:
    async with asyncio.timeout(120):
        while await job.state() is not state:  # noqa: ASYNC110  no event says that it was laid down
            await asyncio.sleep(0.01)


async def test_a_pure_result_opens_nothing_for_one_that_is_not_recorded(
    app: Millstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_off: list[tuple[Any, ...]] = []
    take = SqlLedger.record

    def record(
        ledger: SqlLedger, claim: Claim, drafts: Sequence[Draft], end: Settlement | Pause | None, done: Recorded
    ) -> None:
        if put_off or any(draft[3] == "note" and draft[1] == "node_succeeded" for draft in drafts):
            put_off.append((ledger, claim, drafts, end, done))
        else:
            take(ledger, claim, drafts, end, done)

    monkeypatch.setattr(SqlLedger, "record", record)
    job = await app.submit(of_both_kinds)
    async with asyncio.timeout(120):
        while not put_off or "pure" not in ran:  # noqa: ASYNC110  two things that come in any order
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert sorted(ran) == ["first", "pure"]
    monkeypatch.undo()
    for late in put_off:
        take(*late)
    assert await job.result() == "last"


async def test_a_pure_result_does_not_overtake_in_a_body_what_is_before_it_in_the_record(app: Millstream) -> None:
    job = await app.submit(race_of_both_kinds)
    assert await job.result() == ["first"]
    ended = [event.node async for event in job.events() if event.type == "node_succeeded"]
    assert ended[0] == "race_of_both_kinds#0/note"


async def test_who_is_refused_before_anything_ran_runs_nothing(
    app: Millstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Millstream(settings=app.settings, executes=False) as client:
        read, refuse = SqlLedger.graph, SqlLedger.record
        refused = asyncio.Event()

        def record(
            _: SqlLedger, __: Claim, ___: Sequence[Draft], ____: Settlement | Pause | None, done: Recorded
        ) -> None:
            refused.set()
            done(FencedError("another holds it"), ())

        async def graph(ledger: SqlLedger, job_id: str) -> JobGraph:
            found = await read(ledger, job_id)
            process = app._home.process
            assert process is not None
            process.segments.stop(job_id)
            return found

        monkeypatch.setattr(SqlLedger, "record", record)
        monkeypatch.setattr(SqlLedger, "graph", graph)
        app.registry.add(of_both_kinds)
        job = await client.submit(of_both_kinds)
        await asyncio.wait_for(refused.wait(), 120)
        assert ran == []
        monkeypatch.setattr(SqlLedger, "record", refuse)
        await client.cancel(job.id)


async def test_code_that_is_missing_for_one_job_keeps_no_other_waiting(app: Millstream) -> None:
    @task
    async def gone() -> None:
        """Stand for a task that a former release had."""

    with Flow("shop") as former:
        gone()
    with Flow("shop") as shop:
        note("sold")
    async with Millstream(settings=app.settings, executes=False) as client:
        old = await client.submit(former)
    app.registry.add(shop)
    assert await (await app.submit(shop)).result() == "sold"
    await reaches(await app.job(old.id), JobState.WAITING)
    assert (await app.record(old.id)).reason == "code"
    assert await (await app.submit(shop)).result() == "sold"


async def test_a_job_that_is_repeated_asks_again_what_nobody_knows(app: Millstream) -> None:
    job = await app.submit(payment)
    await reaches(job, JobState.WAITING)
    assert await job.cancel() is JobState.CANCELLED
    again = await app.retry(job.id)
    await reaches(again, JobState.WAITING)
    assert ran == ["pay"]
    assert await again.approve("pay", Decision("repeat"))
    assert await again.result() == "paid"
    assert ran == ["pay", "pay"]
