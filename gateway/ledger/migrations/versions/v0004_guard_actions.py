"""What guards did."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "guard_action",
        sa.Column("action_id", sa.String(length=48), nullable=False),
        sa.Column("request_id", sa.String(length=48), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("key_name", sa.String(length=200), nullable=False),
        sa.Column("guard", sa.String(length=60), nullable=False),
        sa.Column("side", sa.String(length=10), nullable=False),
        sa.Column("action", sa.String(length=20), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["request.request_id"]),
        sa.PrimaryKeyConstraint("action_id"),
    )
    op.create_index("guard_action_request", "guard_action", ["request_id"])


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
