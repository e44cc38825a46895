"""What attempts cost by a corrected price."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cost_correction",
        sa.Column("attempt_id", sa.String(length=48), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("old_nanousd", sa.BigInteger(), nullable=True),
        sa.Column("new_nanousd", sa.BigInteger(), nullable=False),
        sa.Column("completes", sa.Boolean(), nullable=False),
        sa.Column("price_id", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.attempt_id"]),
        sa.ForeignKeyConstraint(["request_id"], ["request.request_id"]),
        sa.ForeignKeyConstraint(["price_id"], ["price.price_id"]),
        sa.PrimaryKeyConstraint("attempt_id", "ordinal"),
    )
    op.create_index("cost_correction_request", "cost_correction", ["request_id"])


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
