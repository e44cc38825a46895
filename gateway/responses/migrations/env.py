"""Runs migrations on the connection that `gateway.ledger.database` hands over."""

from alembic import context

from gateway.responses.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite can't alter columns in place.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
