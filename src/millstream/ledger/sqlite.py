"""SQLite behind a ledger: one file, one writer at a time, and a turn for each that wants to be it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from millstream.errors import MillstreamError
from millstream.ledger import schema
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.ledger.database import Connection, driver_of, first_line, original
from millstream.ledger.fork import call_in_child

BUSY_SECONDS = 10.0
"""How long SQLite waits for a lock that somebody took without our lock file (a shell, a backup)."""

_AGAIN_SECONDS = 0.005

_CACHE_KIB = 16 << 10
"""What each connection keeps of the file in memory at most; the one that writes soon does, whatever it may keep."""

_PRAGMAS = (
    "synchronous=FULL",
    "wal_autocheckpoint=4000",
    f"cache_size=-{_CACHE_KIB}",
    f"busy_timeout={int(BUSY_SECONDS * 1000)}",
)
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
_LOG_BYTES = 16 << 20
_UNASKED = ".millstream"


class SqliteConnection(Connection):
    """Takes its turn among the processes that write.

    SQLite's own waiting lets two of four writers starve, and their leases with them; a lock on a file beside the ledger
    is given out in order.
    """

    def __init__(self, raw: sa.Connection, path: Path) -> None:
        """Take over a connection, and open the file whose lock is a turn."""
        super().__init__(raw)
        self._log = path.with_name(f"{path.name}-wal")
        self._turn = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        call_in_child(self._drop_turn)
        self._is_open = True

    def has_table(self, name: str) -> bool:
        """Return whether there is a table of this name."""
        return bool(self.run(_HAS_TABLE, [name]))

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
            if driver_of(self.raw).in_transaction:  # it may have been taken back already: disk full, I/O errors
                self.cursor.execute("ROLLBACK")
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def _drop_turn(self) -> None:
        """Have no part in the parent's turn, which would outlive the parent here."""
        if self._is_open:
            self._is_open = False
            os.close(self._turn)

    def settle_in(self) -> None:
        """Give the write-ahead log its full size at once, which makes commits up to half as quick again.

        A commit into a file that need not grow does not change the file's length. It is done in a transaction that
        writes nothing, so that nobody else, a user's own connection included, writes behind the log's end meanwhile;
        what lies behind the log's last frame is never read.
        """
        with self._log.open("r+b", buffering=0) as log:
            self.begin()
            try:
                missing = _LOG_BYTES - log.seek(0, os.SEEK_END)
                if missing > 0:
                    log.write(bytes(missing))
            finally:
                self.rollback()
            os.fdatasync(log.fileno())

    def close(self) -> None:
        """Close the connection and the file."""
        if self._is_open:
            self._is_open = False
            super().close()
            os.close(self._turn)


class SqliteDatabase:
    """A file.

    Args:
        url: Names it.
    """

    patience_seconds = 30.0
    """A disk that is slow answers in the end, and nobody else can be asked instead; see `Database`."""

    def __init__(self, url: URL) -> None:
        """Open nothing yet."""
        self.path = Path(url.database or "").expanduser().absolute()
        self.place = str(self.path)
        self._engine = sa.create_engine(
            URL.create("sqlite", database=str(self.path)),
            poolclass=NullPool,
            connect_args={"isolation_level": None, "check_same_thread": False, "cached_statements": 512},
        )
        self.dialect = self._engine.dialect
        sa.event.listen(self._engine, "connect", _prepare_sqlite)

    def holds_ledger(self) -> bool:
        """Return whether the file has a ledger's tables; see `Database.holds_ledger`."""
        if not self.path.exists():
            return False
        try:
            with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as reader:
                return reader.execute(_HAS_TABLE, [schema.revision.name]).fetchone() is not None
        except sqlite3.Error:
            return True  # whoever opens it is told what is wrong with it

    def connect(self, *, reads: bool = False) -> Connection:  # noqa: ARG002  one kind is enough here
        """Return a new connection; see `Database.connect`."""
        try:
            if not self.path.exists():
                _make_directory(self.path.parent)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return SqliteConnection(self._engine.connect(), self.path)
        except (OSError, sa.exc.DBAPIError) as error:
            raise LedgerUnavailableError(f"the ledger {self.path} cannot be opened: {first_line(error)}") from error

    def explain(self, error: Exception) -> MillstreamError | None:
        """Return what SQLite's error means; see `Database.explain`."""
        error = original(error)
        code = getattr(error, "sqlite_errorcode", None)
        match None if code is None else code & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:  # whoever takes its turn never meets another
                return LedgerUnavailableError(f"the ledger {self.path} is locked by another program: {error}")
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                return StorageFullError(f"the ledger {self.path} cannot grow: {error}")
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_READONLY:
                return LedgerUnavailableError(f"the ledger {self.path} cannot be used: {error}")
        return None

    def identify(self, connection: Connection) -> None:
        """Do nothing: the path says which file it is."""

    def owns(self, connection: sa.Connection) -> bool:
        """Return whether a connection is to this file; see `Database.owns`."""
        if connection.dialect.name != "sqlite":
            return False
        (_, _, theirs) = connection.exec_driver_sql("PRAGMA database_list").fetchall()[0]
        return bool(theirs) and self.path.exists() and self.path.samefile(theirs)


def boot_seconds() -> float:
    """Return seconds on a clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _make_directory(directory: Path) -> None:
    """Make a ledger's directory; the one that lies in a project unasked keeps itself out of its version control."""
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
        if directory.name == _UNASKED:
            (directory / ".gitignore").write_text("*\n", encoding="utf-8")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    _have_log(connection)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()
    connection.create_function("millstream_now", 0, boot_seconds)


def _have_log(connection: sqlite3.Connection) -> None:
    """See that the file has a write-ahead log.

    Where another connection does the same, or is the last one and takes the log away, SQLite says at once that the file
    is locked, and does not wait as it does otherwise.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return
