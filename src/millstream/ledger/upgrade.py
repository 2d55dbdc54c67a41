"""Brings the tables of a ledger to the form that this version knows, or refuses what is newer."""

from __future__ import annotations

import sqlalchemy as sa

from millstream import points
from millstream.ledger import schema
from millstream.ledger.base import UnfitLedgerError
from millstream.ledger.database import Connection, transaction
from millstream.ledger.identity import new_identity


class NewerLedgerError(UnfitLedgerError):
    """Raised when a ledger was made by a newer version of millstream; this one leaves it alone."""


def prepare(connection: Connection) -> None:
    """Make the tables where there are none, or upgrade older ones; one process does it, the others wait for it.

    New tables are made from `schema.py` at once, without the migrations; a test holds both to the same result.

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
        elif found > schema.REVISION:
            raise newer(found)
        elif found < schema.REVISION:
            _upgrade(connection)


def newer(found: str) -> NewerLedgerError:
    """Return the refusal of a ledger of a later revision."""
    return NewerLedgerError(
        f"the ledger was made by a newer version of millstream (its tables are of revision {found}, this version "
        f"knows {schema.REVISION}): upgrade millstream"
    )


def stamped(connection: Connection) -> str | None:
    """Return the revision of the tables; empty before the first, `None` where there is no table of revisions."""
    if not connection.has_table(schema.revision.name):
        return None
    rows = connection.run(f"SELECT version_num FROM {schema.revision.name}")  # noqa: S608  a name from schema.py
    return str(rows[0][0]) if rows else ""


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection.raw, checkfirst=False)
    connection.raw.execute(sa.insert(schema.revision).values(version_num=schema.REVISION))
    made = new_identity()
    connection.raw.execute(sa.insert(schema.identity).values(id=made.id, key=made.key))
    points.reach("migration")


def _upgrade(connection: Connection) -> None:
    from millstream.ledger import migrations  # noqa: PLC0415  Alembic takes 0.14 s to import, and is needed only here

    migrations.upgrade(connection.raw)
    points.reach("migration")
