"""Calls to experts that did not serve a request, made afterwards, and what they scored."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TOKENS = (
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
)  # fmt: skip


def upgrade() -> None:
    op.add_column("request_result", sa.Column("shadow", sa.JSON(), nullable=True))
    # Sums are made anew from the rows, with the new ones among them.
    op.execute(sa.text("DELETE FROM rollup"))
    for name in ("shadow_calls", "shadow_nanousd", "shadow_outcomes"):
        op.add_column(
            "rollup", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
    op.create_table(
        "shadow_call",
        sa.Column("call_id", sa.String(length=48), nullable=False),
        sa.Column("root_id", sa.String(length=48), nullable=False),
        sa.Column("decision_id", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("expert_id", sa.String(length=200), nullable=False),
        sa.Column("price_id", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.decision_id"]),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_table(
        "shadow_result",
        sa.Column("call_id", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("error_kind", sa.String(length=40), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in _TOKENS),
        sa.Column("tokens_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_nanousd", sa.BigInteger(), nullable=True),
        sa.Column("first_token_s", sa.Float(), nullable=True),
        sa.Column("latency_s", sa.Float(), nullable=False),
        sa.Column("finish_reason", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(["call_id"], ["shadow_call.call_id"]),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_table(
        "shadow_outcome",
        sa.Column("outcome_id", sa.String(length=48), nullable=False),
        sa.Column("call_id", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("objective", sa.String(length=200), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["call_id"], ["shadow_call.call_id"]),
        sa.PrimaryKeyConstraint("outcome_id"),
    )
    op.create_index("shadow_call_decision", "shadow_call", ["decision_id"])
    op.create_index("shadow_outcome_call", "shadow_outcome", ["call_id"])
    op.create_index("shadow_result_at", "shadow_result", ["at"])
    op.create_index("shadow_outcome_at", "shadow_outcome", ["at"])


def downgrade() -> None:
    raise NotImplementedError("the ledger only goes forward: restore a backup instead")
