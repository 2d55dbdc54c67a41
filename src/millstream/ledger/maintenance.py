"""Looking after a ledger's database: is all of it as it has to be, what can go, and is it of this version."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from millstream.ledger import invariants, schema, upgrade
from millstream.ledger.base import LedgerUnavailableError, UnfitLedgerError
from millstream.ledger.blobs import KEPT_SECONDS
from millstream.ledger.database import (
    Connection,
    Database,
    NoLedgerError,
    database,
    first_line,
    original,
    require_ledger,
    transaction,
)
from millstream.ledger.forgetting import Forgetting
from millstream.ledger.invariants import Problem
from millstream.ledger.parts import blobs_of
from millstream.ledger.queries import Queries
from millstream.ledger.sqlite import SqliteDatabase
from millstream.urls import database_url

T = TypeVar("T")


class StaleLedgerError(UnfitLedgerError):
    """Raised when a ledger's tables are not of this version, and nobody asked to upgrade them."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found.

    Attributes:
        revision: Of the tables.
        jobs: How many jobs are in which state.
        events: How many durable events there are.
        large_values: How many values are kept apart.
        large_bytes: Bytes of those.
        bytes: Bytes of the database, without the large values that are files.
        problems: What is wrong.
    """

    revision: str
    jobs: dict[str, int]
    events: int
    large_values: int
    large_bytes: int
    bytes: int
    problems: list[Problem]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed.

    Attributes:
        jobs: Jobs that are kept no longer.
        graphs: Graphs that no job has.
        large_values: Large values that nobody has used for a day.
        bytes_before: Bytes of the database.
        bytes_after: The same, afterwards.
        is_compacted: Whether the room that became free was given back; not while processes use an SQLite file.
    """

    jobs: int
    graphs: int
    large_values: int
    bytes_before: int
    bytes_after: int
    is_compacted: bool


class Member(msgspec.Struct, frozen=True):
    """A process that uses the ledger.

    Attributes:
        host: The machine.
        pid: Its process id there.
        job_queue: The event log that it has, where it said so.
    """

    host: str
    pid: int
    job_queue: str | None


class Keeper:
    """Looks after a ledger. All its methods block, for as long as they need.

    Args:
        url: Names the database.

    Raises:
        SettingsError: It is none that a ledger can live in.
    """

    def __init__(self, url: str) -> None:
        """Open nothing yet."""
        self._url = url
        self._database: Database = database(url)
        self._queries = Queries(self._database.dialect)
        self._blobs = blobs_of(self._database)
        self._forgetting = Forgetting(self._queries, self._blobs)

    def look(self) -> str:
        """Return the revision of the tables, as it has to be, of a ledger that can be written to.

        Raises:
            NoLedgerError: There is none, and one can be made.
            NewerLedgerError: Its tables are of a newer version.
            StaleLedgerError: Its tables are of an older version.
            LedgerUnavailableError: It cannot be reached or written to, or is damaged.
        """
        if isinstance(self._database, SqliteDatabase):
            _check_room(self._database.path)
        with self._opened() as connection:
            for problem in self._damage(connection, "quick_check(1)"):
                raise LedgerUnavailableError(f"the ledger {self._database.place} cannot be used: {problem.what}")
            connection.begin()
            connection.rollback()
            return schema.REVISION

    def members(self) -> list[Member]:
        """Return the processes that use the ledger, as far as their leases say; none where there is no ledger.

        Raises:
            NewerLedgerError: Its tables are of a newer version.
            StaleLedgerError: Its tables are of an older version.
            LedgerUnavailableError: It cannot be reached.
        """
        member = schema.process.c
        alive = sa.select(member.host, member.pid, member.job_queue).where(
            ~member.dead, member.lease_end > self._queries.now
        )
        try:
            with self._opened() as connection:
                return [Member(*row) for row in connection.raw.execute(alive.order_by(member.id))]
        except NoLedgerError:
            return []

    def check(self) -> Report:
        """Check the database and all that the ledger promises of it; nothing is changed.

        Raises:
            NoLedgerError: There is none.
            NewerLedgerError: Its tables are of a newer version.
            StaleLedgerError: Its tables are of an older version.
            LedgerUnavailableError: It cannot be reached.
        """
        with self._opened() as connection, _snapshot(connection, is_sqlite=self._queries.is_sqlite):
            found = self._damage(connection)
            if not found:
                found = [*invariants.problems(connection.raw), *self._lost_values(connection)]
            return Report(revision=schema.REVISION, problems=found, bytes=self._size(connection), **_counts(connection))

    def vacuum(self, now: float, retention: timedelta | None) -> Cleaned:
        """Remove what nobody needs any more, and give back its room.

        Args:
            now: The time; seconds since the epoch, UTC.
            retention: How long ended jobs are kept; `None` for ever.

        Raises:
            NoLedgerError: There is none.
            NewerLedgerError: Its tables are of a newer version.
            StaleLedgerError: Its tables are of an older version.
            LedgerUnavailableError: It cannot be reached.
            StorageFullError: There is no room to give room back.
        """
        with self._opened() as connection:
            before = self._size(connection)
            jobs = self._forget(connection, None if retention is None else now - retention.total_seconds(), now)
            large_values = self._sweep(connection, now)
            graphs = self._drop_graphs(connection)
            is_compacted = self._compact(connection)
            return Cleaned(
                jobs=jobs,
                graphs=graphs,
                large_values=large_values,
                bytes_before=before,
                bytes_after=self._size(connection),
                is_compacted=is_compacted,
            )

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the tables to this version, or make them; returns their revision before (`None` for none) and after.

        Raises:
            NewerLedgerError: They are of a newer version.
            LedgerUnavailableError: The database cannot be reached.
        """
        with self._connected() as connection:
            found = upgrade.stamped(connection)
            upgrade.prepare(connection)
            return found, schema.REVISION

    # ------------------------------------------------------------------------------------------------------- opening
    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Open a connection as every process does; errors inside are told as what they mean."""
        connection = self._database.connect()
        try:
            yield connection
        except Exception as error:
            meaning = self._database.explain(error)
            if meaning is None:
                raise
            raise meaning from error
        finally:
            connection.close()

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        """Open a connection to a ledger of this version, on which statements may take their time."""
        require_ledger(self._database)
        with self._connected() as connection:
            found = upgrade.stamped(connection) or ""
            if found > schema.REVISION:
                raise upgrade.newer(found)
            if found != schema.REVISION:
                raise StaleLedgerError(
                    f"the ledger has revision {found}, this millstream works on {schema.REVISION}; "
                    "`millstream ledger upgrade` brings it up to date"
                )
            if self._queries.is_sqlite:
                yield connection
                return
            engine = sa.create_engine(
                make_url(database_url(self._url)), poolclass=NullPool, isolation_level="AUTOCOMMIT"
            )
            with engine.connect() as raw:
                yield Connection(raw)

    # ------------------------------------------------------------------------------------------------------ checking
    def _damage(self, connection: Connection, how: str = "integrity_check") -> list[Problem]:
        """Return what SQLite finds wrong with its file; PostgreSQL looks after itself."""
        if not self._queries.is_sqlite:
            return []
        try:
            found = [row[0] for row in connection.run(f"PRAGMA {how}")]
        except sqlite3.DatabaseError as error:
            found = [first_line(original(error))]
        return [Problem(None, f"the database is damaged: {line}") for line in found if line != "ok"]

    def _lost_values(self, connection: Connection) -> Iterator[Problem]:
        use = schema.blob_use.c
        for digest in self._blobs.missing(connection.raw):
            for job in connection.raw.execute(
                sa.select(use.job).where(use.digest == digest).order_by(use.job)
            ).scalars():
                yield Problem(job, f"its large value {digest} is gone or cut off")

    def _size(self, connection: Connection) -> int:
        if self._queries.is_sqlite:
            ((pages,), (size,)) = (connection.run(f"PRAGMA {name}")[0] for name in ("page_count", "page_size"))
            return int(pages * size)
        sizes = [sa.func.pg_total_relation_size(table.name) for table in schema.metadata.sorted_tables]
        return int(sum(connection.raw.execute(sa.select(*sizes)).one()))

    # ------------------------------------------------------------------------------------------------------ cleaning
    def _forget(self, connection: Connection, before: float | None, now: float) -> int:
        if before is None:
            return 0
        return _until_none(lambda: len(self._forgetting.trim(connection, before, now)))

    def _sweep(self, connection: Connection, now: float) -> int:
        """Mark what escaped being marked, and remove what was marked a day ago, or left behind."""
        _until_none(lambda: self._mark(connection, now))
        swept = _until_none(lambda: self._forgetting.sweep(connection, now))
        before = now - KEPT_SECONDS
        strays = self._blobs.strays(connection.raw, before)
        with transaction(connection):
            return swept + self._blobs.remove_strays(connection.raw, strays, before)

    def _mark(self, connection: Connection, now: float) -> int:
        unused = self._blobs.unused(connection.raw)
        with transaction(connection):
            return self._blobs.mark(connection.raw, unused, now)

    def _drop_graphs(self, connection: Connection) -> int:
        """Remove the graphs that no job has, while nobody submits: whoever does relies on a graph that is there."""
        graph = schema.graph
        with transaction(connection):
            if not self._queries.is_sqlite:
                connection.change(f"LOCK TABLE {graph.name} IN SHARE ROW EXCLUSIVE MODE")
            unused = graph.c.digest.not_in(sa.select(schema.job.c.graph))
            return connection.raw.execute(sa.delete(graph).where(unused)).rowcount

    def _compact(self, connection: Connection) -> bool:
        """Give back free room. In SQLite nobody could renew a lease meanwhile, so only where nobody holds one."""
        if not isinstance(self._database, SqliteDatabase):
            for table in schema.metadata.sorted_tables:
                connection.change(f"VACUUM (ANALYZE) {table.name}")
            return True
        with _turn(self._database.path):
            is_used = connection.run(f"SELECT 1 FROM {schema.process.name} WHERE NOT dead LIMIT 1")  # noqa: S608  our name
            if not is_used:
                connection.run("VACUUM")
            connection.run("PRAGMA optimize")
            connection.run(f"PRAGMA wal_checkpoint({'PASSIVE' if is_used else 'TRUNCATE'})")
            return not is_used


def _check_room(path: Path) -> None:
    """See that a file can be written to, or made.

    Raises:
        LedgerUnavailableError: It cannot.
    """
    above = next(directory for directory in path.parents if directory.exists())
    for place in (path, above) if path.exists() else (above,):
        if not os.access(place, os.W_OK):
            raise LedgerUnavailableError(f"the ledger {path} cannot be written to: {place} is read-only")


@contextmanager
def _snapshot(connection: Connection, *, is_sqlite: bool) -> Iterator[None]:
    """Let all reads inside see one and the same state, and change nothing."""
    connection.change("BEGIN" if is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        connection.change("ROLLBACK")


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait for the turn to write, as `SqliteConnection.begin` does, for what cannot be in a transaction."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _counts(connection: Connection) -> dict[str, Any]:
    raw, job, blob = connection.raw, schema.job.c, schema.blob.c
    by_state = raw.execute(sa.select(job.state, sa.func.count()).group_by(job.state).order_by(job.state))
    large, size = raw.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(blob.size), 0))).one()
    return {
        "jobs": {str(state): int(count) for state, count in by_state},
        "events": int(raw.execute(sa.select(sa.func.count()).select_from(schema.event)).scalar_one()),
        "large_values": int(large),
        "large_bytes": int(size),
    }


def _until_none(act: Callable[[], int]) -> int:
    """Do something until there is nothing left to do, and return how much it was."""
    total = 0
    while count := act():
        total += count
    return total
