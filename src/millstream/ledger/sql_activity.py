"""Who looks at interactive jobs, in a ledger's database."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from millstream.ledger import schema
from millstream.ledger.activity import ActivityUnavailableError, Look, Sighting
from millstream.ledger.asking import Asking
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import Queries
from millstream.ledger.rows import is_text
from millstream.ledger.statements import Rows

_COLUMNS = tuple(schema.activity.c)
_INSTEAD = (
    "ON CONFLICT (job, process) DO UPDATE SET "
    "is_open = excluded.is_open, is_polled = excluded.is_polled, seen_at = excluded.seen_at"
)


class SqlActivity:
    """Keeps it in a table; see `Activity` for what its methods promise. Rows go with their jobs.

    Args:
        asking: Asks the ledger's threads.
        dialect: The database's.
    """

    def __init__(self, asking: Asking, dialect: sa.Dialect) -> None:
        """Compile nothing yet."""
        self._asking = asking
        self._queries = Queries(dialect)
        self._rows = Rows(dialect)

    async def touch(self, process: str, looks: Mapping[str, Look]) -> None:
        """Take what a process says; see `Activity.touch`."""

        def write(connection: Connection) -> None:
            with transaction(connection):
                now = connection.raw.execute(sa.select(self._queries.now)).scalar_one()
                rows = [(job_id, process, *looks[job_id], now) for job_id in sorted(looks)]
                self._rows.insert(connection, _COLUMNS, rows, _INSTEAD)

        try:
            await self._asking.write(write)
        except (LedgerUnavailableError, StorageFullError) as error:
            raise ActivityUnavailableError(f"who looks at jobs cannot be recorded: {error}") from error

    async def seen(self, job_ids: Collection[str]) -> dict[str, list[Sighting]]:
        """Return what was said; see `Activity.seen`."""
        ids = sorted(set(filter(is_text, job_ids)))
        try:
            rows = await self._asking.read(lambda connection: self._queries.among(connection, "activity", ids))
        except LedgerUnavailableError as error:
            raise ActivityUnavailableError(f"nobody can say who looks at jobs: {error}") from error
        found: dict[str, list[Sighting]] = {}
        for job_id, process, is_open, is_polled, age in rows:
            look = Look(bool(is_open), bool(is_polled))
            found.setdefault(job_id, []).append(Sighting(process, look, age if age >= 0 else math.inf))
        return found
