"""Runs migrations on the connection that `gateway.ledger.database` hands over."""

from alembic import context

from gateway.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can't alter columns in place.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
