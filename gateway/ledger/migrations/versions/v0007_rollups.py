"""Sums over closed hours, and the indexes they are made by."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SUMS = (
    "requests", "failed", "unpriced", "cost_nanousd", "latency_us", "wasted_nanousd",
    "outcomes", "score_nano", "scored", "newest_nano", "cache_hits", "saved_nanousd", "rows_read",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "rollup",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("expert_id", sa.String(length=200), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("generation", "until", "expert_id"),
    )
    for table in ("request_result", "attempt_result", "outcome", "cache_hit", "cost_correction"):
        op.create_index(f"{table}_at", table, ["at"])


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
