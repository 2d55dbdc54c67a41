"""Turns that processes take, and an index by which the first segments of each queue and flow are found."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what is new."""
    op.create_table(
        "millstream_turn",
        sa.Column("name", sa.Text, nullable=False, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("lease_end", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    queued = sa.text("state = 'queued'")
    op.create_index(
        "millstream_segment_by_queue",
        "millstream_segment",
        ["queue", "flow", sa.text("priority DESC"), "job", "id"],
        sqlite_where=queued,
        postgresql_where=queued,
    )
