"""Which event log a process uses, which jobs are interactive, and who looks at those."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add what is new: no job that is there is interactive."""
    op.add_column("millstream_process", sa.Column("job_queue", sa.Text, nullable=True))
    interactive = sa.Column("is_interactive", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("millstream_job", interactive)
    op.create_table(
        "millstream_activity",
        sa.Column("job", sa.Text, primary_key=True, nullable=False),
        sa.Column("process", sa.Text, primary_key=True, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("is_polled", sa.Boolean, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
