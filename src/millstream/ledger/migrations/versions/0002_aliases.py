"""Which task submitted a job, and aliases of its nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is new; jobs that are there have no parent and no aliases."""
    op.add_column("millstream_job", sa.Column("parent", sa.Text))
    op.create_table(
        "millstream_alias",
        sa.Column("name", sa.Text, nullable=False, primary_key=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("millstream_alias_by_job", "millstream_alias", ["job"])
