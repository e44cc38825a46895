"""The ledger's tables. Rows are only ever inserted: what comes later is a row in a later table.

But for texts that are old enough to be forgotten (`gateway.ledger.forget`).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

Id = String(48)
Name = String(200)

request = Table(
    "request",
    metadata,
    Column("request_id", Id, primary_key=True),
    Column("at", Float, nullable=False),  # seconds since 1970, UTC, as in every table
    Column("key_name", Name, nullable=False),
    Column("project", Name),  # NULL: from before there were projects
    Column("wire", String(40), nullable=False),
    Column("model_asked", Name, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("session", Name),
    Column("tags", JSON, nullable=False),
    Column("prompt_sha256", String(64)),
    Column("prompt", Text),
)

decision = Table(
    "decision",
    metadata,
    Column("decision_id", Id, primary_key=True),
    Column("request_id", Id, ForeignKey("request.request_id"), nullable=False),
    Column("at", Float, nullable=False),
    Column("router", Name, nullable=False),
    Column("version", String(80), nullable=False),
    Column("policy", Name, nullable=False),
    Column("preference", JSON, nullable=False),
    Column("candidates", JSON, nullable=False),
    Column("excluded", JSON, nullable=False),
    Column("draw", Float, nullable=False),
    Column("expert_id", Name, nullable=False),
    Column("propensity", Float, nullable=False),
    Column("flags", JSON, nullable=False),
)

attempt = Table(
    "attempt",
    metadata,
    Column("attempt_id", Id, primary_key=True),
    Column("decision_id", Id, ForeignKey("decision.decision_id"), nullable=False),
    Column("parent_id", Id),  # the attempt of the composition that asked, if one did
    Column("ordinal", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("expert_id", Name, nullable=False),
    Column("price_id", String(64)),  # NULL: the price is unknown
)

attempt_result = Table(
    "attempt_result",
    metadata,
    Column("attempt_id", Id, ForeignKey("attempt.attempt_id"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("status", String(20), nullable=False),  # ok, failed, cancelled, not_sent
    Column("error_kind", String(40)),
    Column("error", Text),
    Column("http_status", Integer),
    Column("input_tokens", Integer),
    Column("cache_read_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("tokens_estimated", Boolean, nullable=False),
    Column("cost_nanousd", BigInteger),  # NULL: unknown, never 0
    Column("wasted", Boolean, nullable=False),
    Column("first_token_s", Float),
    Column("latency_s", Float, nullable=False),
    Column("finish_reason", String(40)),
)

attempt_trace = Table(
    "attempt_trace",
    metadata,
    # How a composition came to its answer, one row per step.
    Column("attempt_id", Id, ForeignKey("attempt.attempt_id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("record", JSON, nullable=False),
    Column("text", JSON(none_as_null=True)),  # what was written in it, as far as texts are kept
)

request_result = Table(
    "request_result",
    metadata,
    Column("request_id", Id, ForeignKey("request.request_id"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("status", Integer, nullable=False),  # HTTP; 499 when the client left
    Column("error_kind", String(40)),
    Column("answered_by", Name),
    Column("cost_nanousd", BigInteger, nullable=False),  # of all attempts whose price is known
    Column("cost_complete", Boolean, nullable=False),
    Column("latency_s", Float, nullable=False),
    Column("answer", Text),
    # The chance that each expert had of being asked as well, afterwards, had it not been drawn;
    # NULL: nobody had one.
    Column("shadow", JSON(none_as_null=True)),
)

cache_hit = Table(
    "cache_hit",
    metadata,
    Column("request_id", Id, ForeignKey("request.request_id"), primary_key=True),
    Column("at", Float, nullable=False),
    # The decision that was paid for, whose answer was given again.
    Column("source_decision_id", Id, ForeignKey("decision.decision_id"), nullable=False),
    Column("kind", String(20), nullable=False),  # exact, semantic
    Column("similarity", Float, nullable=False),
    Column("saved_nanousd", BigInteger),  # NULL: unknown, never 0
    Column("saved_tokens", Integer, nullable=False),
)

guard_action = Table(
    "guard_action",
    metadata,
    Column("action_id", Id, primary_key=True),
    Column("request_id", Id, ForeignKey("request.request_id")),  # NULL: refused before it was one
    Column("at", Float, nullable=False),
    Column("key_name", Name, nullable=False),
    Column("guard", String(60), nullable=False),
    Column("side", String(10), nullable=False),  # input, output
    # redact, block, flag, failed_open, failed_closed
    Column("action", String(20), nullable=False),
    Column("found", JSON, nullable=False),  # kind of thing to how often, never the thing
)

outcome = Table(
    "outcome",
    metadata,
    Column("outcome_id", Id, primary_key=True),
    Column("decision_id", Id, ForeignKey("decision.decision_id"), nullable=False),
    Column("at", Float, nullable=False),
    Column("objective", Name, nullable=False),
    Column("score", Float, nullable=False),
    Column("source", Name, nullable=False),
    Column("comment", Text),
)

expert_card = Table(
    "expert_card",
    metadata,
    Column("card_id", String(64), primary_key=True),  # hash of the card
    Column("at", Float, nullable=False),
    Column("expert_id", Name, nullable=False),
    Column("card", JSON, nullable=False),
)

price = Table(
    "price",
    metadata,
    Column("price_id", String(64), primary_key=True),  # hash of expert and prices
    Column("at", Float, nullable=False),
    Column("expert_id", Name, nullable=False),
    Column("input", Float, nullable=False),  # US dollars per million tokens
    Column("output", Float, nullable=False),
    Column("cache_read", Float),
    Column("cache_write", Float),
    Column("request", Float, nullable=False),
    Column("source", Text, nullable=False),
)

cost_correction = Table(
    "cost_correction",
    metadata,
    Column("attempt_id", Id, ForeignKey("attempt.attempt_id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("request_id", Id, ForeignKey("request.request_id"), nullable=False),
    Column("at", Float, nullable=False),
    Column("old_nanousd", BigInteger),  # NULL: it was unknown
    Column("new_nanousd", BigInteger, nullable=False),
    Column("completes", Boolean, nullable=False),  # the request has no unknown cost any more
    Column("price_id", String(64), ForeignKey("price.price_id"), nullable=False),
    Column("reason", Text, nullable=False),
)

router_version = Table(
    "router_version",
    metadata,
    Column("event_id", Id, primary_key=True),
    Column("at", Float, nullable=False),
    Column("router", Name, nullable=False),
    Column("version", String(80), nullable=False),
    # served: a gateway began to use it; fitted, refused, shadowing, on_trial, promoted, withdrawn,
    # failed, drifted: a step of retraining, whose reasons are in the manifest
    Column("event", String(20), nullable=False),
    Column("manifest", JSON, nullable=False),
)

shadow_decision = Table(
    "shadow_decision",
    metadata,
    Column("shadow_id", Id, primary_key=True),
    Column("at", Float, nullable=False),
    Column("router", Name, nullable=False),
    Column("served_version", String(80), nullable=False),
    Column("served_expert", Name, nullable=False),
    Column("version", String(80), nullable=False),  # of the router on trial
    Column("expert_id", Name),  # whom it would have asked; NULL: it failed
)

shadow_call = Table(
    "shadow_call",
    metadata,
    # A call to an expert that did not serve the request, made after it was answered: no part of
    # what the request cost.
    Column("call_id", Id, primary_key=True),
    Column("root_id", Id, nullable=False),  # its own, or the composition's that made it
    Column("decision_id", Id, ForeignKey("decision.decision_id"), nullable=False),
    Column("at", Float, nullable=False),
    Column("expert_id", Name, nullable=False),
    Column("price_id", String(64)),  # NULL: the price is unknown
)

shadow_result = Table(
    "shadow_result",
    metadata,
    Column("call_id", Id, ForeignKey("shadow_call.call_id"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("status", String(20), nullable=False),  # as in attempt_result
    Column("error_kind", String(40)),
    Column("error", Text),
    Column("http_status", Integer),
    Column("input_tokens", Integer),
    Column("cache_read_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("tokens_estimated", Boolean, nullable=False),
    Column("cost_nanousd", BigInteger),  # NULL: unknown, never 0
    Column("first_token_s", Float),
    Column("latency_s", Float, nullable=False),
    Column("finish_reason", String(40)),
)

shadow_outcome = Table(
    "shadow_outcome",
    metadata,
    Column("outcome_id", Id, primary_key=True),
    Column("call_id", Id, ForeignKey("shadow_call.call_id"), nullable=False),
    Column("at", Float, nullable=False),
    Column("objective", Name, nullable=False),
    Column("score", Float, nullable=False),
    Column("source", Name, nullable=False),
    Column("comment", Text),
)

rollup = Table(
    "rollup",
    metadata,
    # Derived: sums over rows written until `until` and after the row before. A new generation is
    # begun when rows came so late that the sums no longer hold.
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("until", BigInteger, primary_key=True, autoincrement=False),  # a whole hour
    Column("expert_id", Name, primary_key=True),  # who answered; "" nobody
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("cost_nanousd", BigInteger, nullable=False),
    Column("latency_us", BigInteger, nullable=False),
    Column("wasted_nanousd", BigInteger, nullable=False),
    Column("outcomes", BigInteger, nullable=False),
    Column("score_nano", BigInteger, nullable=False),  # of all outcomes, in billionths
    Column("scored", BigInteger, nullable=False),  # decisions
    Column("newest_nano", BigInteger, nullable=False),  # of their newest scores
    Column("cache_hits", BigInteger, nullable=False),
    Column("saved_nanousd", BigInteger, nullable=False),
    Column("shadow_calls", BigInteger, nullable=False, server_default="0"),
    Column("shadow_nanousd", BigInteger, nullable=False, server_default="0"),
    Column("shadow_outcomes", BigInteger, nullable=False, server_default="0"),
    Column("rows_read", BigInteger, nullable=False),
)

key = Table(
    "key",
    metadata,
    Column("name", Name, primary_key=True),
    Column("ordinal", Integer, primary_key=True),  # no two writers add the same next event
    Column("at", Float, nullable=False),
    Column("event", String(20), nullable=False),  # created, changed, rotated, revoked
    Column("by", Name),  # NULL: the operator, at the ledger itself
    Column("digest", String(64)),  # SHA-256 of the new secret
    Column("until", Float),  # when the secret before a rotation stops working
    Column("grant", JSON(none_as_null=True)),
)

for _summed in (
    request_result, attempt_result, outcome, cache_hit, cost_correction, shadow_result,
    shadow_outcome,
):  # fmt: skip
    Index(f"{_summed.name}_at", _summed.c.at)
Index("request_at", request.c.at)
_KEPT = request.c.prompt.is_not(None)
# In PostgreSQL too (see its migration), but to say so here would load all that is known of it.
Index("request_text", request.c.at, sqlite_where=_KEPT)
Index("decision_at", decision.c.at)
Index("decision_request", decision.c.request_id)
Index("guard_action_request", guard_action.c.request_id)
Index("attempt_decision", attempt.c.decision_id)
Index("cost_correction_request", cost_correction.c.request_id)
Index("outcome_decision", outcome.c.decision_id)
Index("shadow_decision_version", shadow_decision.c.router, shadow_decision.c.version)
Index("shadow_call_decision", shadow_call.c.decision_id)
Index("shadow_outcome_call", shadow_outcome.c.call_id)

vector_space = Table(
    "vector_space",
    metadata,
    Column("project", Name, primary_key=True),
    Column("kind", String(20), primary_key=True),  # collection or session
    Column("name", Name, primary_key=True),
    Column("at", Float, nullable=False),
    Column("expert_id", Name, nullable=False),
    Column("space", Name, nullable=False),
    Column("dimensions", Integer),  # as asked for; NULL: the embedder's own
)
"""Whose vectors an index holds: written with the first of them, and never again."""
