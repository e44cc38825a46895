"""How compositions came to their answers, step by step."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempt_trace",
        sa.Column("attempt_id", sa.String(length=48), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("text", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.attempt_id"]),
        sa.PrimaryKeyConstraint("attempt_id", "ordinal"),
    )


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
