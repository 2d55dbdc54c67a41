"""PostgreSQL behind a ledger: connections that never hang, and commits whose outcome is found out where it was lost."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from millstream.errors import MillstreamError, SettingsError
from millstream.ledger import schema
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.ledger.database import CollisionError, Connection, UnknownOutcomeError, driver_of, first_line, original

try:
    import psycopg
except ImportError as missing:  # not installed, or without the library that it needs
    raise SettingsError("a ledger on PostgreSQL needs the extra: pip install 'millstream[postgres]'") from missing

ANSWER_SECONDS: Final = 10.0
"""How long the server may take for a statement; a little later the connection counts as lost."""

_GRACE_SECONDS = 2.0
_DOUBT_SECONDS = 60.0
_RETRY_SECONDS = 0.2
_TABLES_LOCK = 0x6D696C6C73  # "mills"

_OPTIONS: Final = {
    "connect_timeout": "5",
    "application_name": "millstream",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # A transaction between two statements is one of a process that was stopped: its locks are not to outlive its lease.
    "options": f"-c statement_timeout={ANSWER_SECONDS:g}s -c idle_in_transaction_session_timeout=15s",
}

_IDENTITY: Final = (  # nothing in it can fail, which would end a user's transaction
    f"SELECT system_identifier, current_database(), to_regclass('{schema.job.name}')::oid FROM pg_control_system()"  # noqa: S608
)

_COLLISIONS: Final = frozenset({"40001", "40P01", "55P03"})
_FULL: Final = frozenset({"53100"})
_GONE: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "53300", "25006", "57014"})


class _BoundedConnection(psycopg.Connection[Any]):
    """Gives up waiting for a server that keeps the connection open and says nothing."""

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        """Wait as psycopg does, for a bounded time."""
        return super().wait(_until(gen, time.monotonic() + ANSWER_SECONDS + _GRACE_SECONDS), *args, **options)


class PostgresConnection(Connection):
    """Finds out whether a commit took place when the connection broke before the answer.

    Args:
        raw: The SQLAlchemy connection, in autocommit mode.
        database: Where to ask.
    """

    def __init__(self, raw: sa.Connection, database: PostgresDatabase) -> None:
        """Take over a connection."""
        super().__init__(raw)
        self._driver: psycopg.Connection[Any] = driver_of(raw)
        self._database = database
        self._transaction = ""

    def begin(self) -> None:
        """Begin a transaction, and take its number, by which its outcome can be asked for."""
        cursor: Any = self.cursor
        cursor.execute("BEGIN; SELECT pg_current_xact_id()::text", prepare=False)
        cursor.nextset()
        (self._transaction,) = cursor.fetchone()

    def commit(self) -> None:
        """Make a transaction durable.

        Raises:
            LedgerUnavailableError: The connection broke, and it was not.
            UnknownOutcomeError: The connection broke, and it cannot be found out.
        """
        try:
            self._end("COMMIT")
        except psycopg.OperationalError as error:
            if not self._driver.closed and self._driver.info.transaction_status.name != "ACTIVE":
                raise
            self._driver.close()
            if not self._database.was_committed(self._transaction):
                raise LedgerUnavailableError(f"the connection broke at a commit: {first_line(error)}") from error

    def rollback(self) -> None:
        """Take a transaction back; a connection that broke has done so."""
        if not self._driver.closed:
            self._end("ROLLBACK")

    def _end(self, how: str) -> None:
        cursor: Any = self.cursor
        cursor.execute(how, prepare=False)

    @property
    def is_broken(self) -> bool:
        """Whether the server, or the way to it, has ended the connection; see `Connection.is_broken`."""
        return self._driver.closed

    def close(self) -> None:
        """Close the connection, also a broken one."""
        self._driver.close()
        self.raw.invalidate()
        self.raw.close()

    def lock_tables(self) -> None:
        """Wait until nobody else makes or changes tables; see `Connection.lock_tables`."""
        self.run("SELECT pg_advisory_xact_lock(%s)", [_TABLES_LOCK])

    def has_table(self, name: str) -> bool:
        """Return whether there is a table of this name."""
        # Alone, `to_regclass` answers from a cache, which is brought up to date when a statement locks a relation: who
        # had to wait for others to make the tables would not see them.
        return bool(self.run("SELECT 1 FROM pg_class WHERE oid = to_regclass(%s)", [name]))


class PostgresDatabase:
    """A database on a server.

    Args:
        url: Names it; its query may set libpq's own options.
    """

    patience_seconds = ANSWER_SECONDS + _GRACE_SECONDS
    """As long as one statement may take, though what waits behind it would first find out that it is lost, too; see
    `Database`."""

    def __init__(self, url: URL) -> None:
        """Open nothing yet."""
        self.place = url.set(drivername="postgresql").render_as_string(hide_password=True)  # as it is given
        self._engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            creator=lambda: self._connect(url),
        )
        self.dialect = self._engine.dialect
        self._identity: tuple[Any, ...] | None = None

    @staticmethod
    def _connect(url: URL) -> psycopg.Connection[Any]:
        plain = url.set(drivername="postgresql", query={})
        options: dict[str, Any] = {**_OPTIONS, **{name: str(value) for name, value in url.query.items()}}
        return _BoundedConnection.connect(
            plain.render_as_string(hide_password=False), autocommit=True, prepare_threshold=2, **options
        )

    def holds_ledger(self) -> bool:
        """Return whether the database has a ledger's tables; see `Database.holds_ledger`."""
        connection = self.connect(reads=True)
        try:
            return connection.has_table(schema.revision.name)
        except psycopg.Error as error:
            raise self.explain(error) or error from error
        finally:
            connection.close()

    def connect(self, *, reads: bool = False) -> Connection:  # noqa: ARG002  one kind is enough here
        """Return a new connection; see `Database.connect`."""
        try:
            return PostgresConnection(self._engine.connect(), self)
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            raise LedgerUnavailableError(f"the ledger {self.place} cannot be reached: {first_line(error)}") from error

    def explain(self, error: Exception) -> MillstreamError | None:
        """Return what PostgreSQL's error means; see `Database.explain`."""
        error = original(error)
        if not isinstance(error, psycopg.Error):
            return None
        state = error.sqlstate
        if state in _COLLISIONS:
            return CollisionError(str(error))
        if state in _FULL:
            return StorageFullError(f"the ledger {self.place} cannot grow: {first_line(error)}")
        is_lost = state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        if is_lost or (state is not None and (state.startswith("08") or state in _GONE)):
            return LedgerUnavailableError(f"the ledger {self.place} does not answer: {first_line(error)}")
        return None

    def identify(self, connection: Connection) -> None:
        """Take note of which database it is; see `Database.identify`."""
        self._identity = tuple(connection.run(_IDENTITY)[0])

    def owns(self, connection: sa.Connection) -> bool:
        """Return whether a connection is to this database; see `Database.owns`."""
        if connection.dialect.name != "postgresql":
            return False
        if self._identity is None:
            mine = self.connect()
            try:
                self.identify(mine)
            finally:
                mine.close()
        return tuple(connection.execute(sa.text(_IDENTITY)).one()) == self._identity

    def was_committed(self, transaction: str) -> bool:
        """Return whether a transaction whose connection broke at its commit took place.

        While the server has not noticed that the connection broke, it is told to end its side of it, since that holds
        locks.

        Raises:
            UnknownOutcomeError: The server could not be asked for a minute.
        """
        end = time.monotonic() + _DOUBT_SECONDS
        while True:
            try:
                status = self._status(transaction)
            except LedgerUnavailableError:
                status = "in progress"
            if status != "in progress":
                return status == "committed"
            if time.monotonic() > end:
                raise UnknownOutcomeError
            time.sleep(_RETRY_SECONDS)

    def _status(self, transaction: str) -> str | None:
        connection = self.connect()
        try:
            connection.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid::text = %s"
                " AND usename = current_user",
                [str(int(transaction) & 0xFFFFFFFF)],
            )
            return str(connection.run("SELECT pg_xact_status(%s::xid8)", [transaction])[0][0])
        except psycopg.Error as error:
            meaning = self.explain(error)
            if isinstance(meaning, LedgerUnavailableError):
                raise meaning from error
            return None  # a number that this server has not given out: it is another one that took over
        finally:
            connection.close()


def _until(gen: Generator[Any, Any, Any], end: float) -> Generator[Any, Any, Any]:
    """Pass on what a generator of psycopg waits for, until a time."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > end:
                raise psycopg.OperationalError("the server does not answer")
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value
