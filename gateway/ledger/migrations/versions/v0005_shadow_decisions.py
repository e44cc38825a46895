"""What routers on trial would have decided."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shadow_decision",
        sa.Column("shadow_id", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("router", sa.String(length=200), nullable=False),
        sa.Column("served_version", sa.String(length=80), nullable=False),
        sa.Column("served_expert", sa.String(length=200), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("expert_id", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("shadow_id"),
    )
    op.create_index("shadow_decision_version", "shadow_decision", ["router", "version"])


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
