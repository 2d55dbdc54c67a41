"""What the flow server keeps of users and flows: reached through the app, shared by processes, without secrets."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from millstream import Millstream, Settings, flow, task
from millstream.authoring import current
from millstream.authoring.registry import Definition
from millstream.clock import SystemClock, new_id
from millstream.ledger import schema
from millstream.ledger.database import database
from millstream.ledger.filter import Filter
from millstream.ledger.listing import listing
from millstream.ledger.sql import SqlLedger
from millstream.model.job import Durability
from millstream.testing import VirtualClock
from millstream.testing.server_doings import make_flow, make_key, make_project, make_session, make_user


@task
async def answer() -> int:
    return 42


@pytest.mark.parametrize("durability", ["off", "full"])
async def test_an_app_has_accounts_and_flows_whatever_its_jobs_durability(
    durability: Durability, tmp_path: Path
) -> None:
    settings = Settings(durability=durability, database_url=f"sqlite:///{tmp_path}/ledger.db")
    user = make_user("ada")
    flow = make_flow(user)
    async with Millstream(settings=settings) as app:
        await (await app.accounts()).add_user(user)
        await (await app.flow_store()).add(flow)
        job = await app.submit(answer, owner=user.id)
        assert await job.result() == 42
        assert [record.id for record in await app.jobs(owner=user.id)] == [job.id]
    async with Millstream(settings=settings) as app:
        assert await (await app.accounts()).user(user.id) == user
        assert await (await app.flow_store()).get(flow.id, user.id) == flow
        assert (await app.jobs(owner=user.id) == []) is (durability == "off")


@task
async def submits() -> str:
    return (await current.app().submit(answer)).id


@task
def calls_delay() -> str:
    return str(answer.delay().root_id)


@flow
async def conducts() -> str:
    return (await current.app().submit(answer)).id


@pytest.mark.parametrize("work", [submits, calls_delay, conducts], ids=lambda work: work.name.rpartition(".")[2])
async def test_what_a_task_submits_belongs_to_the_owner_of_its_job(work: Definition, tmp_path: Path) -> None:
    settings = Settings(durability="full", database_url=f"sqlite:///{tmp_path}/ledger.db")
    async with Millstream(settings=settings) as app:
        theirs, nobodys = await app.submit(work, owner="ada"), await app.submit(work)
        ids = {await theirs.result(), theirs.id}
        assert {record.id for record in await app.jobs(owner="ada")} == ids
        assert (await app.record(await nobodys.result())).owner is None


async def test_retention_sweeps_expired_sessions_and_full_buckets(url: str) -> None:
    clock = VirtualClock()
    ledger = SqlLedger(url, clock)
    user = make_user("ada")
    await ledger.accounts.add_user(user)
    kept = make_session(user)
    await ledger.accounts.begin([kept, *(make_session(user, expires_at=clock.now() + 60) for _ in range(2500))])
    await ledger.accounts.take("slow", 1, 3600.0)
    await ledger.accounts.take("quick", 1, 0.001)
    await ledger.trim()
    assert rows(url, schema.session) == 2501
    await clock.advance(60)
    await ledger.trim()
    assert rows(url, schema.session) == 1
    assert await ledger.accounts.session(kept.digest) == (kept, user)
    assert rows(url, schema.bucket) == 1
    await ledger.close()


def rows(url: str, table: sa.Table) -> int:
    connection = database(url).connect(reads=True)
    count = connection.raw.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    connection.close()
    return int(count)


_TAKER = """
import asyncio, sys
from millstream.clock import SystemClock
from millstream.ledger.sql import SqlLedger

async def main():
    ledger = SqlLedger(sys.argv[1], SystemClock())
    await ledger.open()
    print("ready", flush=True)
    sys.stdin.readline()
    waits = await asyncio.gather(*(ledger.accounts.take("shared", 10, 3600.0) for _ in range(20)))
    print(waits.count(0.0))
    await ledger.close()

asyncio.run(main())
"""


def test_processes_together_take_no_more_than_a_bucket_holds(url: str) -> None:
    command = [sys.executable, "-c", _TAKER, url]
    takers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for taker in takers:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("go\n")
        taker.stdin.flush()
    taken = [int(taker.communicate(timeout=120)[0]) for taker in takers]
    assert sum(taken) == 10


async def test_every_question_of_a_request_is_answered_by_an_index(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{path}", SystemClock())
    await ledger.open()
    asked = [ledger.accounts._session, ledger.accounts._key, ledger.flow_store._version, ledger.flow_store._flow]
    await ledger.close()
    with sqlite3.connect(path) as connection:
        for statement in asked:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.fill()).fetchall()
            assert all(re.match(r"SEARCH \w+ USING (PRIMARY KEY|INDEX)", row[3]) for row in plan), plan
    connection.close()


async def test_the_newest_jobs_of_an_owner_are_found_by_an_index(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{path}", SystemClock())
    await ledger.open()
    asked = listing(ledger._parts.queries, Filter(owner="ada", before="f"))
    assert asked is not None
    await ledger.close()
    connection = sqlite3.connect(path)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[0].sql}", asked[1])]
    connection.close()
    assert sum("millstream_job_by_owner (owner=? AND state=? AND id<?)" in step for step in plan) == 7, plan
    assert not any(step.startswith("SCAN millstream_job") for step in plan), plan


async def test_a_document_of_32_mib_is_kept_and_listed_without_being_read(url: str) -> None:
    ledger = SqlLedger(url, SystemClock())
    user = make_user("ada")
    await ledger.accounts.add_user(user)
    project = make_project(user)
    await ledger.flow_store.add_project(project)
    for i in range(3):
        text = "x" * (1 << 20)
        data = {"nodes": [{"id": str(n), "data": {"values": {"text": text}}} for n in range(32)], "edges": []}
        await ledger.flow_store.add(make_flow(user, f"flow {i}", data=data, project=project.id))
    listed, asked = await ledger.flow_store.flows(user.id), asyncio.get_running_loop().time()
    for _ in range(100):
        assert await ledger.flow_store.flows(user.id, project=project.id) == listed
    assert asyncio.get_running_loop().time() - asked < 60
    assert not hasattr(listed[0], "data")
    await ledger.close()


async def test_a_key_that_is_asked_for_is_found_among_many(url: str) -> None:
    ledger = SqlLedger(url, SystemClock())
    user = make_user("ada")
    await ledger.accounts.add_user(user)
    keys = [make_key(user, id=new_id()) for _ in range(50)]
    for key in keys:
        await ledger.accounts.add_key(key)
    assert await ledger.accounts.key(keys[25].id) == (keys[25], user)
    await ledger.close()
