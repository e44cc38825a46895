"""What experts answered that did not serve: calls, what they cost, and what they scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Engine, Select, cast, func, select

from eval.ope.logged import Aside
from experts.cards import NANO_PER_USD
from gateway.ledger.database import reader
from gateway.ledger.scores import QUALITY
from gateway.ledger.tables import decision, shadow_call, shadow_outcome, shadow_result

_DONE = "ok"
_ALWAYS = (0.0, float("inf"))
SHADOW_TOKENS = (
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
)  # fmt: skip


def shadows_of(engine: Engine, decision_id: str) -> list[dict[str, Any]]:
    """The shadow calls of one decision, each with its result, dollars and scores."""
    ended = [c for c in shadow_result.c if c.name not in ("call_id", "at")]
    calls = (
        select(shadow_call, *ended)
        .outerjoin(shadow_result, shadow_result.c.call_id == shadow_call.c.call_id)
        .where(shadow_call.c.decision_id == decision_id)
        .order_by(shadow_call.c.at, shadow_call.c.call_id)
    )
    scores = (
        select(shadow_outcome)
        .join(shadow_call, shadow_call.c.call_id == shadow_outcome.c.call_id)
        .where(shadow_call.c.decision_id == decision_id)
        .order_by(shadow_outcome.c.at)
    )
    with reader(engine).connect() as connection:
        scored = [_plain(row) for row in connection.execute(scores)]
        return [
            {
                **each,
                "cost_usd": None
                if each["cost_nanousd"] is None
                else each["cost_nanousd"] / NANO_PER_USD,
                "outcomes": [one for one in scored if one["call_id"] == each["call_id"]],
            }
            for each in map(_plain, connection.execute(calls))
        ]


def spent_since(engine: Engine, since: float) -> int:
    """Nano-dollars of all shadow calls that ended then or later."""
    query = select(func.coalesce(func.sum(shadow_result.c.cost_nanousd), 0)).where(
        shadow_result.c.at >= since
    )
    with reader(engine).connect() as connection:
        return int(connection.execute(query).scalar_one())


def shadow_totals(engine: Engine, router: str, span: tuple[float, float]) -> Aside:
    """Shadow calls beside a router's decisions in [since, until), and their known dollars."""
    made = shadow_result.c
    query: Select[Any] = (
        select(
            func.count().filter(shadow_call.c.root_id == made.call_id),
            func.coalesce(func.sum(made.cost_nanousd), 0),
        )
        .select_from(shadow_result)
        .join(shadow_call, shadow_call.c.call_id == made.call_id)
        .join(decision, decision.c.decision_id == shadow_call.c.decision_id)
        .where(decision.c.router == router, decision.c.at >= span[0])
    )
    if span[1] != float("inf"):
        query = query.where(decision.c.at < span[1])
    with reader(engine).connect() as connection:
        calls, cost = connection.execute(query).one()
    return Aside(int(calls), int(cost) / NANO_PER_USD)


def shadow_scores(
    objective: str, router: str | None = None, span: tuple[float, float] = _ALWAYS
) -> Select[Any]:
    """Scored shadow calls, the newest score of each.

    One row per call: `decision_id`, `expert_id`, `at`, `score`, `latency_s`, token counts, and
    `cost_nanousd` with what a composition's own calls cost; NULL is unknown.

    Args:
        objective: Which scores.
        router: Only of this router's decisions; None: of all.
        span: Only of decisions from then on, and before then; seconds since 1970.
    """
    told = shadow_outcome.c
    newest = (
        select(told.call_id, func.max(told.at).label("at"))
        .where(told.objective == objective)
        .group_by(told.call_id)
        .subquery()
    )
    score = (
        select(told.call_id, func.avg(told.score).label("score"))
        .join(newest, (newest.c.call_id == told.call_id) & (newest.c.at == told.at))
        .where(told.objective == objective)
        .group_by(told.call_id)
        .subquery()
    )
    part, made = shadow_call.alias("part"), shadow_result.alias("made")
    known = func.count(made.c.cost_nanousd) == func.count()
    cost = (
        select(
            part.c.root_id,
            cast(func.sum(made.c.cost_nanousd), BigInteger).label("cost_nanousd"),
            known.label("known"),
        )
        .join(made, made.c.call_id == part.c.call_id)
        .group_by(part.c.root_id)
        .subquery()
    )
    query: Select[Any] = (
        select(
            shadow_call.c.decision_id,
            shadow_call.c.expert_id,
            decision.c.at,
            score.c.score,
            cost.c.cost_nanousd,
            cost.c.known,
            shadow_result.c.latency_s,
            *(shadow_result.c[name] for name in SHADOW_TOKENS),
        )
        .join(score, score.c.call_id == shadow_call.c.call_id)
        .join(shadow_result, shadow_result.c.call_id == shadow_call.c.call_id)
        .join(cost, cost.c.root_id == shadow_call.c.call_id)
        .join(decision, decision.c.decision_id == shadow_call.c.decision_id)
        .where(shadow_call.c.root_id == shadow_call.c.call_id, shadow_result.c.status == _DONE)
        .order_by(decision.c.at, shadow_call.c.decision_id, shadow_call.c.expert_id)
    )
    if span != _ALWAYS:
        query = query.where(decision.c.at >= span[0], decision.c.at < span[1])
    return query if router is None else query.where(decision.c.router == router)


def count_shadow_scores(engine: Engine, router: str) -> int:
    """Shadow calls beside a router's decisions that have a score of quality."""
    query = (
        select(func.count(func.distinct(shadow_outcome.c.call_id)))
        .join(shadow_call, shadow_call.c.call_id == shadow_outcome.c.call_id)
        .join(decision, decision.c.decision_id == shadow_call.c.decision_id)
        .where(decision.c.router == router, shadow_outcome.c.objective == QUALITY)
    )
    with reader(engine).connect() as connection:
        return int(connection.execute(query).scalar_one())


def _plain(row: Any) -> dict[str, Any]:
    found: Mapping[str, Any] = row._mapping
    return {str(name): value for name, value in found.items()}
