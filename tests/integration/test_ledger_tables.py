"""The tables of a ledger: made in one go or by migrations they are the same, and newer ones are left alone."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from millstream.clock import SystemClock
from millstream.ledger import migrations, schema
from millstream.ledger.base import Settlement
from millstream.ledger.database import Connection, database, transaction
from millstream.ledger.filter import Filter
from millstream.ledger.maintenance import Keeper
from millstream.ledger.sql import SqlLedger
from millstream.ledger.upgrade import NewerLedgerError, prepare
from millstream.model.job import NodeResult, NodeState
from millstream.testing.ledger_doings import ME, OTHER, SUCCEEDED, claimed, ended, make_job, nobody, record, submit
from millstream.testing.server_doings import make_user


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    connection = database(url).connect()
    yield connection
    connection.close()


def migrate(connection: Connection, to: str = "head") -> None:
    with transaction(connection):
        migrations.upgrade(connection.raw, to)


def copy(made: str, connection: Connection) -> None:
    """Copy a ledger into tables of an earlier revision, which have no more of it than they have columns for."""
    source = database(made).connect(reads=True)
    found = sa.inspect(connection.raw)
    with transaction(connection):
        for table in schema.metadata.sorted_tables:
            if table is schema.revision or not found.has_table(table.name):
                continue
            known = [table.c[column["name"]] for column in found.get_columns(table.name)]
            rows = [dict(row) for row in source.raw.execute(sa.select(*known)).mappings()]
            if rows:
                connection.raw.execute(sa.insert(sa.table(table.name, *map(_bare, known))), rows)
    source.close()


def _bare(column: sa.Column[Any]) -> sa.ColumnClause[Any]:
    return sa.column(column.name, column.type)


def test_the_revision_that_the_code_knows_is_that_of_the_newest_migration() -> None:
    assert migrations.newest() == schema.REVISION


def test_migrations_lead_to_the_tables_that_the_code_knows(connection: Connection) -> None:
    migrate(connection)
    context = MigrationContext.configure(connection.raw, opts={"version_table": schema.revision.name})
    assert not compare_metadata(context, schema.metadata)
    prepare(connection)


def test_tables_made_in_one_go_are_those_that_migrations_make(tmp_path: Path) -> None:
    made: list[set[tuple[str, ...]]] = []
    for name, make in (("at-once", prepare), ("migrated", migrate)):
        connection = database(f"sqlite:///{tmp_path}/{name}.db").connect()
        make(connection)
        rows = connection.run("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        made.append({tuple("".join(part.split()) for part in row) for row in rows if "revision" not in row[1]})
        connection.close()
    assert made[0] == made[1]


async def test_a_newer_ledger_is_refused_with_one_line(url: str, connection: Connection) -> None:
    prepare(connection)
    with transaction(connection):
        connection.raw.execute(sa.update(schema.revision).values(version_num="9999"))
    ledger = SqlLedger(url, SystemClock())
    with pytest.raises(NewerLedgerError, match=r"newer version .*revision 9999, this version knows 0006") as refused:
        await ledger.open()
    assert "\n" not in str(refused.value)
    await ledger.close()


def test_all_who_open_a_new_file_at_the_same_time_get_it(tmp_path: Path) -> None:
    all_there = threading.Barrier(6)

    def open_and_close(path: Path) -> object:
        all_there.wait()
        connection = database(f"sqlite:///{path}").connect()
        (mode,) = connection.run("PRAGMA journal_mode")
        connection.close()
        return mode

    with ThreadPoolExecutor(6) as threads:
        for i in range(200):
            assert set(threads.map(open_and_close, [tmp_path / f"{i}.db"] * 6)) == {("wal",)}


async def test_an_older_ledger_is_upgraded_when_it_is_opened(url: str, connection: Connection) -> None:
    with transaction(connection):
        schema.revision.create(connection.raw)
    ledger = SqlLedger(url, SystemClock())
    await ledger.open()
    await ledger.close()
    assert connection.has_table(schema.job.name)


async def test_a_ledger_of_the_first_revision_is_upgraded_with_its_jobs(
    url: str, connection: Connection, tmp_path: Path
) -> None:
    made, clock = SqlLedger(f"sqlite:///{tmp_path}/made.db", SystemClock()), SystemClock()
    await made.join(ME, nobody)
    done, queued = await claimed(made), make_job(idempotency_key="k")
    await submit(made, queued, None)
    await record(made, done, ended("a", [1, 2]), end=Settlement(SUCCEEDED, result=3))
    await made.leave(ME)
    await made.close()
    migrate(connection, "0001")
    copy(f"sqlite:///{tmp_path}/made.db", connection)
    assert not connection.has_table(schema.alias.name)

    assert Keeper(url).upgrade() == ("0001", schema.REVISION)
    assert Keeper(url).check().problems == []
    ledger = SqlLedger(url, clock)
    await ledger.join(OTHER, nobody)
    assert await ledger.get(queued.id) == queued
    assert (await ledger.get(done.job.id)).result == 3
    assert await ledger.node_result(done.job.id, "a") == NodeResult("a", NodeState.SUCCEEDED, 1, [1, 2])
    (claim,) = await ledger.claim(OTHER, 10)
    assert (claim.job.id, claim.job.parent, (await ledger.graph(queued.id)).aliases) == (queued.id, None, {})
    assert (claim.queue, claim.order, await ledger.members()) == (None, None, 1)
    another = SqlLedger(url, clock)
    assert await ledger.identity() == await another.identity()
    await another.close()
    job = make_job(parent=f"{queued.id}.a")
    assert await submit(ledger, job, None, mine="a") == (job, None)
    assert await ledger.alias("mine") == (job.id, "a")
    await ledger.close()


async def test_the_jobs_of_a_ledger_from_before_there_were_owners_belong_to_nobody(
    url: str, connection: Connection, tmp_path: Path
) -> None:
    made = SqlLedger(f"sqlite:///{tmp_path}/made.db", SystemClock())
    await made.join(ME, nobody)
    done, queued = await claimed(made, idempotency_key="k", inputs={"x": 1}), make_job(queue="mail")
    await submit(made, queued, None)
    await record(made, done, ended("a", [1, 2]), end=Settlement(SUCCEEDED, result=3))
    await made.leave(ME)
    await made.close()
    migrate(connection, "0004")
    copy(f"sqlite:///{tmp_path}/made.db", connection)
    assert not connection.has_table(schema.user.name)

    ledger = SqlLedger(url, SystemClock())
    await ledger.join(OTHER, nobody)
    assert [(job.id, job.owner) for job in await ledger.find(Filter())] == [(queued.id, None), (done.job.id, None)]
    again = make_job(idempotency_key="k", inputs={"x": 1})
    assert (await submit(ledger, again, OTHER))[0].id == done.job.id
    user = make_user("ada")
    await ledger.accounts.add_user(user)
    mine = make_job(owner=user.id)
    await submit(ledger, mine, None)
    assert await ledger.find(Filter(owner=user.id)) == [mine]
    assert {claim.job.id for claim in await ledger.claim(OTHER, 10)} == {queued.id, mine.id}
    await ledger.close()
    assert Keeper(url).check().problems == []


async def test_the_jobs_and_members_of_a_ledger_from_before_there_was_presence_go_on(
    url: str, connection: Connection, tmp_path: Path
) -> None:
    made = SqlLedger(f"sqlite:///{tmp_path}/made.db", SystemClock())
    await made.join(ME, nobody)
    queued = make_job()
    await submit(made, queued, None)
    await made.close()
    migrate(connection, "0005")
    copy(f"sqlite:///{tmp_path}/made.db", connection)
    assert not connection.has_table(schema.activity.name)

    ledger = SqlLedger(url, SystemClock())
    await ledger.join(OTHER, nobody)
    assert await ledger.get(queued.id) == queued
    assert not queued.is_interactive
    looked_at = make_job(is_interactive=True)
    await submit(ledger, looked_at, None)
    assert await ledger.get(looked_at.id) == looked_at
    assert {claim.job.is_interactive for claim in await ledger.claim(OTHER, 10)} == {False, True}
    await ledger.close()
    assert Keeper(url).check().problems == []


def test_only_an_upgrade_loads_alembic(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from millstream.clock import SystemClock
from millstream.ledger.sql import SqlLedger

async def main():
    ledger = SqlLedger("sqlite:///{tmp_path}/ledger.db", SystemClock())
    await ledger.open()
    await ledger.close()

asyncio.run(main())
assert "alembic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_the_file_of_a_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path}/deep/ledger.db", SystemClock())
    await ledger.open()
    await ledger.close()
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "deep").iterdir()}
    assert set(modes.values()) == {"0o600"}, modes
    assert sqlite3.connect(tmp_path / "deep" / "ledger.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_connection_to_a_file_keeps_little_of_it_in_memory(tmp_path: Path) -> None:
    connection = database(f"sqlite:///{tmp_path}/ledger.db").connect()
    assert connection.run("PRAGMA cache_size") == [(-16 * 1024,)], "in KiB: a process has three connections"
    connection.close()
