"""The database behind a ledger: which one a URL names, connections to it, and what its errors mean."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from millstream.errors import MillstreamError, SettingsError
from millstream.ledger.base import LedgerUnavailableError, StorageFullError

BUSY_SECONDS = 10.0
"""How long SQLite waits for a lock that somebody took without our lock file (a shell, a backup)."""

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=4000",
    "cache_size=-65536",
    f"busy_timeout={int(BUSY_SECONDS * 1000)}",
)
_WAL_BYTES = 16 << 20


class CollisionError(MillstreamError):
    """Raised when a transaction met another one, and may succeed when it is made again."""


class Cursor(Protocol):
    """What is used of a driver's cursor."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Execute a statement."""

    def fetchall(self) -> list[Any]:
        """Return the rows."""


class Connection:
    """A connection with transactions that are begun and ended by hand.

    Args:
        raw: The SQLAlchemy connection, in autocommit mode.

    Attributes:
        raw: For statements that are not in a hurry, and for others' code.
    """

    def __init__(self, raw: sa.Connection) -> None:
        """Take over a connection."""
        self.raw = raw
        self.cursor: Cursor = _driver(raw).cursor()

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Execute a driver's statement and return its rows."""
        self.cursor.execute(sql, parameters)
        return self.cursor.fetchall()

    def change(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute a driver's statement and return how many rows it changed."""
        self.cursor.execute(sql, parameters)
        return self.cursor.rowcount

    def begin(self) -> None:
        """Begin a transaction that writes."""
        self.cursor.execute("BEGIN")

    def commit(self) -> None:
        """Make a transaction durable."""
        self.cursor.execute("COMMIT")

    def rollback(self) -> None:
        """Take a transaction back; without one nothing happens."""
        self.cursor.execute("ROLLBACK")

    def lock_tables(self) -> None:
        """Wait, in a transaction, until nobody else makes or changes tables."""

    def has_table(self, name: str) -> bool:
        """Return whether there is a table of this name."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()


class SqliteConnection(Connection):
    """Takes its turn among the processes that write.

    SQLite's own waiting lets two of four writers starve, and their leases with them; a lock on a file beside the ledger
    is given out in order.
    """

    def __init__(self, raw: sa.Connection, lock_path: str) -> None:
        """Take over a connection, and open the file whose lock is a turn."""
        super().__init__(raw)
        self._turn = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._is_open = True

    def has_table(self, name: str) -> bool:
        """Return whether there is a table of this name."""
        return bool(self.run("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [name]))

    def begin(self) -> None:
        """Wait for the turn to write, and begin a transaction."""
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            self.cursor.execute("BEGIN IMMEDIATE")
        except BaseException:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            raise

    def commit(self) -> None:
        """Make a transaction durable, and let the next one write."""
        self.cursor.execute("COMMIT")
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def rollback(self) -> None:
        """Take a transaction back, and let the next one write."""
        try:
            if _driver(self.raw).in_transaction:  # it may have been taken back already: disk full, I/O errors
                self.cursor.execute("ROLLBACK")
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the connection and the file."""
        if self._is_open:
            self._is_open = False
            super().close()
            os.close(self._turn)


class Database(Protocol):
    """One kind of database."""

    dialect: sa.Dialect

    def connect(self, *, reads: bool = False) -> Connection:
        """Return a new connection.

        Args:
            reads: Whether it is for reading alone.

        Raises:
            LedgerUnavailableError: There is none to be had.
        """

    def explain(self, error: Exception) -> MillstreamError | None:
        """Return what a driver's error means; `None` where it is about the statement or its values alone."""

    def owns(self, connection: sa.Connection) -> bool:
        """Return whether a user's connection is to this very database."""


class SqliteDatabase:
    """A file.

    Args:
        url: Names it.
    """

    def __init__(self, url: URL) -> None:
        """Open nothing yet."""
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise SettingsError(f"the ledger's database must be a file, such as sqlite:///ledger.db, but is {url}")
        self.path = Path(url.database).expanduser().absolute()
        self._engine = sa.create_engine(
            URL.create("sqlite", database=str(self.path)),
            poolclass=NullPool,
            connect_args={"isolation_level": None, "check_same_thread": False, "cached_statements": 512},
        )
        self.dialect = self._engine.dialect
        sa.event.listen(self._engine, "connect", _prepare_sqlite)

    @property
    def lock_path(self) -> str:
        """The file whose lock is the turn to write."""
        return f"{self.path}.lock"

    def connect(self, *, reads: bool = False) -> Connection:  # noqa: ARG002  one kind is enough here
        """Return a new connection; see `Database.connect`."""
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return SqliteConnection(self._engine.connect(), self.lock_path)
        except (OSError, sa.exc.DBAPIError) as error:
            raise LedgerUnavailableError(f"the ledger {self.path} cannot be opened: {_first_line(error)}") from error

    def explain(self, error: Exception) -> MillstreamError | None:
        """Return what SQLite's error means; see `Database.explain`."""
        code = getattr(error, "sqlite_errorcode", None)
        match None if code is None else code & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return CollisionError(str(error))
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                return StorageFullError(f"the ledger {self.path} cannot grow: {error}")
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_READONLY:
                return LedgerUnavailableError(f"the ledger {self.path} cannot be used: {error}")
        return None

    def owns(self, connection: sa.Connection) -> bool:
        """Return whether a connection is to this file; see `Database.owns`."""
        if connection.dialect.name != "sqlite":
            return False
        (_, _, theirs) = connection.exec_driver_sql("PRAGMA database_list").fetchall()[0]
        return bool(theirs) and self.path.exists() and self.path.samefile(theirs)

    def grow_log(self) -> None:
        """Give the write-ahead log its full size at once, which makes commits about half as quick again.

        A commit into a file that need not grow is one write and no change of the file's length. What lies behind the
        log's last frame is never read. For the one whose turn it is to write.
        """
        with self.path.with_name(f"{self.path.name}-wal").open("r+b", buffering=0) as log:
            missing = _WAL_BYTES - log.seek(0, os.SEEK_END)
            if missing > 0:
                log.write(bytes(missing))


def boot_seconds() -> float:
    """Return seconds on a clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def database(url: str) -> Database:
    """Return the database that a URL names; nothing is opened.

    Raises:
        SettingsError: It is none that a ledger can live in.
    """
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise SettingsError(f"the ledger's URL cannot be read: {error}") from error
    if parsed.get_backend_name() == "sqlite":
        return SqliteDatabase(parsed)
    raise SettingsError(f"a ledger lives in SQLite or PostgreSQL, not in {parsed.get_backend_name()!r}")


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit what is done inside, or take it back where it raises."""
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _driver(raw: sa.Connection) -> Any:
    return raw.connection.driver_connection


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()
    connection.create_function("millstream_now", 0, boot_seconds)


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).split("\n", 1)[0]
