"""Who a job belongs to, and what the flow server keeps: users, sessions, API keys, projects, flows and limits."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what is new; jobs that are there belong to nobody."""
    op.add_column("millstream_job", _text("owner", nullable=True))
    _index("job_by_owner", "job", "owner", "state", "id", where="owner IS NOT NULL")
    _make_accounts()
    _make_flows()
    _make("bucket", _text("name", primary_key=True), _seconds("full_at"))
    _index("bucket_by_time", "bucket", "full_at")


def _make_accounts() -> None:
    _make(
        "user",
        _text("id", primary_key=True),
        _text("name"),
        _text("password", nullable=True),
        sa.Column("is_superuser", sa.Boolean, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        _seconds("created_at"),
        _seconds("updated_at"),
    )
    _index("user_by_name", "user", "name", unique=True)
    _index("user_superuser", "user", "id", where="is_superuser")
    _make(
        "session",
        _text("digest", primary_key=True),
        _text("owner"),
        _text("kind"),
        _text("family"),
        _seconds("created_at"),
        _seconds("expires_at"),
    )
    _index("session_by_owner", "session", "owner")
    _index("session_by_family", "session", "family")
    _index("session_by_expiry", "session", "expires_at")
    _make(
        "api_key",
        _text("id", primary_key=True),
        _text("owner"),
        _text("name"),
        _text("digest"),
        _text("scopes"),
        _seconds("created_at"),
        _seconds("expires_at", nullable=True),
        _seconds("last_used_at", nullable=True),
    )
    _index("api_key_by_owner", "api_key", "owner", "id")


def _make_flows() -> None:
    _make(
        "project",
        _text("id", primary_key=True),
        _text("owner"),
        _text("name"),
        _text("description"),
        sa.Column("version", sa.Integer, nullable=False),
        _seconds("created_at"),
        _seconds("updated_at"),
    )
    _index("project_by_name", "project", "name", "owner", unique=True)
    _index("project_by_owner", "project", "owner", "id")
    op.create_table(
        "millstream_flow",
        _text("id", primary_key=True),
        _text("owner"),
        _text("project", nullable=True),
        _text("name"),
        _text("description"),
        _text("endpoint_name", nullable=True),
        sa.Column("version", sa.Integer, nullable=False),
        _text("webhook", nullable=True),
        _seconds("created_at"),
        _seconds("updated_at"),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    _index("flow_by_name", "flow", "name", "owner", unique=True)
    _index("flow_by_endpoint", "flow", "endpoint_name", "owner", unique=True)
    _index("flow_by_owner", "flow", "owner", "id")
    _index("flow_by_project", "flow", "project", "id", where="project IS NOT NULL")


def _make(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(f"millstream_{name}", *columns, sqlite_with_rowid=False)


def _index(name: str, table: str, *columns: str, where: str | None = None, unique: bool = False) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"millstream_{name}",
        f"millstream_{table}",
        list(columns),
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable, primary_key=primary_key)


def _seconds(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)
