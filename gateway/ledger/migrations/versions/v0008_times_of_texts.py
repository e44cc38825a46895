"""Indexes: decisions by time, and requests whose texts are still kept."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("decision_at", "decision", ["at"])
    kept = sa.text("prompt IS NOT NULL")
    op.create_index("request_text", "request", ["at"], sqlite_where=kept, postgresql_where=kept)


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
