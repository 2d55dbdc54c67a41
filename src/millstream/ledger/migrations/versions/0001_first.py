"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    _make("graph", _text("digest", primary_key=True), _bytes("body"))
    _make_job()
    _make_segment()
    _make_event_and_claim()
    _make_process()
    _make_blobs()


def _make_job() -> None:
    _make(
        "job",
        _text("id", primary_key=True),
        _text("flow"),
        _text("version"),
        _text("graph"),
        _text("state"),
        _text("reason", nullable=True),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        _text("durability"),
        sa.Column("next_seq", sa.BigInteger, nullable=False),
        _seconds("created_at"),
        _seconds("started_at", nullable=True),
        _seconds("ended_at", nullable=True),
        _seconds("starts_at", nullable=True),
        _seconds("expires_at", nullable=True),
        _text("idempotency_key", nullable=True),
        _bytes("inputs"),
        _bytes("bindings"),
        _bytes("result", nullable=True),
        _bytes("error", nullable=True),
    )
    _index("job", "job_by_state", "state", "id")
    _index("job", "job_by_flow", "flow", "state", "id")
    _index("job", "job_by_reason", "reason", "id", where="reason IS NOT NULL")
    _index("job", "job_by_key", "idempotency_key", where="idempotency_key IS NOT NULL", unique=True)
    _index("job", "job_by_end", "ended_at", where="ended_at IS NOT NULL")
    not_begun = "expires_at IS NOT NULL AND started_at IS NULL AND ended_at IS NULL"
    _index("job", "job_by_expiry", "expires_at", where=not_begun)


def _make_segment() -> None:
    _make(
        "segment",
        _text("job", primary_key=True),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        _text("state"),
        sa.Column("attempt", sa.Integer, nullable=False),
        _text("holder", nullable=True),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        _text("flow"),
        _seconds("ready_at", nullable=True),
        sqlite_with_rowid=False,
    )
    first = sa.text("priority DESC")
    _index("segment", "segment_queued", first, "job", "id", where="state = 'queued'")
    _index("segment", "segment_suspect", first, "job", where="state = 'queued' AND crashes >= 2")
    _index("segment", "segment_waiting", "ready_at", where="state = 'waiting' AND ready_at IS NOT NULL")
    _index("segment", "segment_held", "holder", where="holder IS NOT NULL")


def _make_event_and_claim() -> None:
    _make(
        "claim",
        _text("job", primary_key=True),
        sa.Column("segment", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        _text("holder"),
        _seconds("at"),
        sqlite_with_rowid=False,
    )
    _make(
        "event",
        _text("job", primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("type"),
        _seconds("at"),
        _text("node", nullable=True),
        _bytes("data", nullable=True),
    )


def _make_process() -> None:
    _make(
        "process",
        _text("id", primary_key=True),
        _text("host"),
        _text("boot"),
        sa.Column("pid", sa.Integer, nullable=False),
        _text("place", nullable=True),
        _seconds("started_at"),
        _seconds("lease_end"),
        sa.Column("dead", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )


def _make_blobs() -> None:
    _make(
        "blob",
        _text("digest", primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        _bytes("data", nullable=True),
        _seconds("marked_at", nullable=True),
    )
    _index("blob", "blob_marked", "marked_at", where="marked_at IS NOT NULL")
    _make("blob_use", _text("job", primary_key=True), _text("digest", primary_key=True), sqlite_with_rowid=False)
    _index("blob_use", "blob_use_by_digest", "digest")


def _make(name: str, *columns: sa.Column[Any], **options: Any) -> None:
    op.create_table(f"millstream_{name}", *columns, **options)


def _index(table: str, name: str, *columns: Any, where: str | None = None, unique: bool = False) -> None:
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


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=nullable)
