"""Queues, side segments, who executes, and what tells a ledger from all others."""

import sqlalchemy as sa
from alembic import op

from millstream.ledger.identity import new_identity

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what is new: jobs that are there are in the default queue, and who is a member executes."""
    op.add_column("millstream_job", sa.Column("queue", sa.Text))
    op.add_column("millstream_segment", sa.Column("queue", sa.Text))
    op.add_column("millstream_segment", sa.Column("order_seq", sa.BigInteger))
    side = sa.text("state = 'queued' AND id > 1")
    op.create_index(
        "millstream_segment_side",
        "millstream_segment",
        [sa.text("priority DESC"), "job", "id"],
        sqlite_where=side,
        postgresql_where=side,
    )
    executes = sa.Column("executes", sa.Boolean, nullable=False, server_default=sa.true())
    op.add_column("millstream_process", executes)
    table = op.create_table(
        "millstream_identity",
        sa.Column("id", sa.Text, nullable=False, primary_key=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    made = new_identity()
    op.bulk_insert(table, [{"id": made.id, "key": made.key}])
