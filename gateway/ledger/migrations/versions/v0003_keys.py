"""Keys made while the gateway runs, and the project that a request belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("event", sa.String(length=20), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("until", sa.Float(), nullable=True),
        sa.Column("grant", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("name", "ordinal"),
    )
    op.add_column("request", sa.Column("project", sa.String(length=200), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
