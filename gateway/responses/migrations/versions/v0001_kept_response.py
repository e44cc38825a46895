"""Kept responses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kept_response",
        sa.Column("response_id", sa.String(length=80), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("previous_id", sa.String(length=80), nullable=True),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("response_id"),
    )
    op.create_index("kept_response_at", "kept_response", ["at"])


def downgrade() -> None:
    op.drop_table("kept_response")
