"""The migrations of a ledger's tables, one file each in `versions/`; they only ever add."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def upgrade(connection: sa.Connection, to: str = "head") -> None:
    """Upgrade the tables in the transaction that a connection is in."""
    if not connection.in_transaction():
        connection.begin()  # so that Alembic takes the transaction for somebody else's, and leaves its end alone
    settings = _settings()
    settings.attributes["connection"] = connection
    command.upgrade(settings, to)


def newest() -> str | None:
    """Return the number of the last migration."""
    return ScriptDirectory.from_config(_settings()).get_current_head()


def _settings() -> Config:
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return settings
