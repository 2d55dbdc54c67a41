"""The database behind a ledger: which one a URL names, connections to it, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from millstream.errors import DefinitionError, MillstreamError, SettingsError
from millstream.ledger.base import UnfitLedgerError
from millstream.urls import database_url


class NoLedgerError(UnfitLedgerError):
    """Raised when there is no ledger where the settings say."""


class CollisionError(MillstreamError):
    """Raised when a transaction met another one, and may succeed when it is made again."""


class KeyHeldError(MillstreamError):
    """Raised when a transaction that has not ended is about to take an idempotency key or an alias; submit again."""


class UnknownOutcomeError(MillstreamError):
    """Raised when the database could not be asked, for a minute, whether a commit that it did not answer took place."""


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
        self.cursor: Cursor = driver_of(raw).cursor()

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

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be done with it any more, which says nothing about a new one."""
        return False

    def settle_in(self) -> None:
        """Do what makes later commits quicker and takes a moment; for a process that writes much."""

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()


class Database(Protocol):
    """One kind of database.

    Attributes:
        dialect: How SQLAlchemy speaks to it.
        place: Where it is, for people.
        patience_seconds: How long anybody waits for an answer, also behind what others asked.
    """

    dialect: sa.Dialect
    place: str
    patience_seconds: float

    def holds_ledger(self) -> bool:
        """Return whether it has a ledger's tables, of whatever version; makes and changes nothing.

        Raises:
            LedgerUnavailableError: It cannot be reached.
        """

    def connect(self, *, reads: bool = False) -> Connection:
        """Return a new connection.

        Args:
            reads: Whether it is for reading alone.

        Raises:
            LedgerUnavailableError: There is none to be had.
        """

    def explain(self, error: Exception) -> MillstreamError | None:
        """Return what a driver's error means; `None` where it is about the statement or its values alone."""

    def identify(self, connection: Connection) -> None:
        """Take note of which database it is, for `owns`; called with connections to a ledger that has its tables."""

    def owns(self, connection: sa.Connection) -> bool:
        """Return whether a user's connection is to this very database."""


def database(url: str) -> Database:
    """Return the database that a URL names; nothing is opened.

    Raises:
        SettingsError: It is none that a ledger can live in.
    """
    try:
        parsed = make_url(database_url(url))
    except (ValueError, sa.exc.ArgumentError) as error:
        raise SettingsError(f"the ledger's URL cannot be used: {error}") from None  # the cause would quote the password
    if parsed.get_backend_name() == "sqlite":
        from millstream.ledger.sqlite import SqliteDatabase  # noqa: PLC0415  each needs its own driver alone

        return SqliteDatabase(parsed)
    from millstream.ledger.postgres import PostgresDatabase  # noqa: PLC0415  as above

    return PostgresDatabase(parsed)


def require_ledger(database: Database) -> None:
    """See that there is a ledger to look into: looking makes none.

    Raises:
        NoLedgerError: There is none.
        LedgerUnavailableError: The database cannot be reached.
    """
    if not database.holds_ledger():
        raise NoLedgerError(f"there is no ledger yet: {database.place}")


def check_connection(connection: object) -> None:
    """See that a job can be recorded in what a user gave as the connection of a transaction.

    Raises:
        DefinitionError: It is something else.
    """
    is_async = hasattr(connection, "sync_connection")  # SQLAlchemy's asyncio part is not imported: it needs greenlet
    if not is_async and not isinstance(connection, sa.Connection):
        raise DefinitionError(
            f"connection= takes a Connection or AsyncConnection of SQLAlchemy, not {type(connection).__name__}; "
            "of an engine give what engine.begin() opens, of a session session.connection()"
        )


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


def driver_of(raw: sa.Connection) -> Any:
    """Return the driver's connection behind one of SQLAlchemy."""
    return raw.connection.driver_connection


def original(error: Exception) -> Exception:
    """Return the driver's error behind one of SQLAlchemy."""
    cause = getattr(error, "orig", None)
    return cause if isinstance(cause, Exception) else error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; drivers add statements and positions to it."""
    return str(getattr(error, "orig", None) or error).split("\n", 1)[0]
