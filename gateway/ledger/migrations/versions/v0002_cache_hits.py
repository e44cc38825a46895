"""What answers given again from the cache saved."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cache_hit",
        sa.Column("request_id", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("source_decision_id", sa.String(length=48), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("similarity", sa.Float(), nullable=False),
        sa.Column("saved_nanousd", sa.BigInteger(), nullable=True),
        sa.Column("saved_tokens", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["request.request_id"]),
        sa.ForeignKeyConstraint(["source_decision_id"], ["decision.decision_id"]),
        sa.PrimaryKeyConstraint("request_id"),
    )


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
