"""Brings the tables of a ledger to the form that this version knows, or refuses what is newer."""

from __future__ import annotations

import sqlalchemy as sa

from millstream import points
from millstream.errors import MillstreamError
from millstream.ledger import schema
from millstream.ledger.database import Connection, transaction


class NewerLedgerError(MillstreamError):
    """Raised when a ledger was made by a newer version of millstream; this one leaves it alone."""


def prepare(connection: Connection) -> None:
    """Make the tables where there are none, or upgrade older ones; one process does it, the others wait for it.

    Raises:
        NewerLedgerError: They are newer than this version.
    """
    if stamped(connection) == schema.REVISION:
        return
    with transaction(connection):
        connection.lock_tables()
        found = stamped(connection)
        if found is None:
            _create(connection)
        elif found != schema.REVISION:
            _upgrade(connection, found)


def stamped(connection: Connection) -> str | None:
    """Return the revision of the tables; `None` where there are none."""
    if not connection.has_table(schema.revision.name):
        return None
    rows = connection.run(f"SELECT version_num FROM {schema.revision.name}")  # noqa: S608  a name from schema.py
    return str(rows[0][0]) if rows else None


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection.raw, checkfirst=False)
    connection.raw.execute(sa.insert(schema.revision).values(version_num=schema.REVISION))
    points.reach("migration")


def _upgrade(connection: Connection, found: str) -> None:
    from millstream.ledger.migrations import upgrade  # noqa: PLC0415  Alembic is needed once per upgrade, not per start

    upgrade(connection.raw, found)
    points.reach("migration")
