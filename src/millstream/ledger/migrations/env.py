"""What Alembic runs; the transaction is the caller's."""

from alembic import context

from millstream.ledger import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.revision.name,
)
context.run_migrations()
