"""What an open ledger consists of: the thread that writes, those that read, and what they are given."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import sqlalchemy as sa

from millstream.ledger import schema, upgrade
from millstream.ledger.backlog import Backlog
from millstream.ledger.batch import Batch, Tools
from millstream.ledger.blobs import Blobs, FileBlobs, TableBlobs
from millstream.ledger.claims import Claims
from millstream.ledger.database import Connection, Database
from millstream.ledger.forgetting import Forgetting
from millstream.ledger.holds import Holds
from millstream.ledger.identity import Identity
from millstream.ledger.lookups import Lookups
from millstream.ledger.members import Members, Proof
from millstream.ledger.queries import Queries
from millstream.ledger.reading import Reader
from millstream.ledger.sqlite import SqliteDatabase
from millstream.ledger.statements import Rows
from millstream.ledger.writer import Writer

_OPENING_SECONDS = 30.0
"""How long anybody waits who comes first: the tables may have to be made, or another process to be waited for."""


class Parts:
    """The parts of one ledger in one process.

    Args:
        database: Where the ledger is.
        lease_seconds: How long a lease lasts.
        proof: Proves deaths without waiting for leases.

    Attributes:
        queries: What is asked.
        blobs: Where large values are.
        members: The memberships of this process.
        forgetting: Forgets jobs.
        claims: Claims segments.
        backlog: Tells what is queued.
        lookups: Reads single jobs.
        writer: The thread that writes.
        reader: The threads that read.
    """

    def __init__(self, database: Database, lease_seconds: float, proof: Proof | None) -> None:
        """Start no thread yet, and open nothing."""
        rows = Rows(database.dialect)
        self.queries = Queries(database.dialect)
        self.blobs = blobs_of(database)
        self.members = Members(self.queries, lease_seconds, proof)
        self.forgetting = Forgetting(self.queries, self.blobs)
        self.claims = Claims(self.queries, rows, self.blobs)
        self.backlog = Backlog(self.queries)
        self.lookups = Lookups(self.queries, self.load)
        self._tools = Tools(self.queries, rows, self.blobs, Holds())
        self._database = database
        self._identity: Identity | None = None
        self._is_prepared = False
        self._preparing = threading.Lock()
        self.writer = Writer(database, self._batch, self.members, self._prepare, self.blobs)
        self.reader = Reader(database, self._prepare)

    @property
    def patience_seconds(self) -> float:
        """How long anybody waits for an answer at most; what is recorded waits longer, see `Ledger.record`."""
        return self._database.patience_seconds if self._is_prepared else _OPENING_SECONDS

    def _batch(self, connection: Connection) -> Batch:
        return Batch(connection, self._tools)

    def _prepare(self, connection: Connection) -> None:
        """See that the tables are there, once, and which database it is."""
        with self._preparing:
            if not self._is_prepared:
                upgrade.prepare(connection)
                self._is_prepared = True
        self._database.identify(connection)

    async def close(self) -> None:
        """End the threads, when all that they were given is done."""
        for stop in (self.writer.stop, self.reader.stop):
            try:
                await asyncio.get_running_loop().run_in_executor(None, stop)
            except RuntimeError:  # the interpreter is about to end, and starts no more threads
                stop()

    def identity(self, connection: Connection) -> Identity:
        """Return what tells the ledger from others; it is read once."""
        if self._identity is None:
            (row,) = connection.raw.execute(sa.select(schema.identity))
            self._identity = Identity(row.id, bytes(row.key))
        return self._identity

    def load(self, connection: Connection) -> Any:
        """Return what returns large values by their digests."""

        def load(digest: str) -> bytes:
            return self.blobs.get(connection.raw, [digest])[digest]

        return load


def blobs_of(database: Database) -> Blobs:
    """Return where the large values of a ledger are."""
    if isinstance(database, SqliteDatabase):
        return FileBlobs(database.path.with_name(f"{database.path.name}.blobs"))
    return TableBlobs()
