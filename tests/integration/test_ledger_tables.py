"""The tables of a ledger: made in one go or by migrations they are the same, and newer ones are left alone."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from millstream.clock import SystemClock
from millstream.ledger import migrations, schema
from millstream.ledger.database import Connection, database, transaction
from millstream.ledger.sql import SqlLedger
from millstream.ledger.upgrade import NewerLedgerError, prepare


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    connection = database(url).connect()
    yield connection
    connection.close()


def migrate(connection: Connection) -> None:
    with transaction(connection):
        migrations.upgrade(connection.raw)


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
    with pytest.raises(NewerLedgerError, match=r"newer version .*revision 9999, this version knows 0002") as refused:
        await ledger.open()
    assert "\n" not in str(refused.value)
    await ledger.close()


async def test_an_older_ledger_is_upgraded_when_it_is_opened(url: str, connection: Connection) -> None:
    with transaction(connection):
        schema.revision.create(connection.raw)
    ledger = SqlLedger(url, SystemClock())
    await ledger.open()
    await ledger.close()
    assert connection.has_table(schema.job.name)


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
