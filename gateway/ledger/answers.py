"""Graded answers with their texts, for whoever makes examples of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Engine, Select, select

from eval.best_answers import GradedAnswer
from eval.tables.sources import same_prompt_key
from experts.cards import NANO_PER_USD
from gateway.errors import NothingToLearnError
from gateway.ledger.costs import request_costs
from gateway.ledger.database import reader
from gateway.ledger.scores import latest_scores
from gateway.ledger.tables import decision, expert_card, request, request_result

_HELD_OUT = ("dev", "test")


def graded_answers(
    engine: Engine,
    left_out: dict[str, int],
    *,
    objective: str = "quality",
    second: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[GradedAnswer]:
    """Every scored answer whose texts were kept; those to one question come together.

    Questions are the same when their texts differ in case and white space only. What is tagged as
    held out (`split` dev or test) is left out unless `tags` ask for it, so that nobody is trained
    on what judges it.

    Args:
        engine: The ledger.
        left_out: Is filled in as rows are read: reason to how many answers.
        objective: Which scores.
        second: Objective of the second opinion.
        tags: Only requests that carry all of these.

    Raises:
        NothingToLearnError: At the end, when there was none.
    """
    licences = _licences(engine)
    wanted, anything = dict(tags or {}), False
    for record in _in_order(engine, objective, second):
        carried = record["tags"]
        if any(carried.get(name) != value for name, value in wanted.items()):
            continue
        reason = _unusable(record, wanted)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        anything = True
        cost = record["cost_nanousd"] if record["cost_complete"] else None
        yield GradedAnswer(
            query=_key(record["prompt"]),
            prompt=record["prompt"],
            answer=record["answer"],
            expert=record["answered_by"],
            score=record["score"],
            second=record["second"],
            task=carried.get("task"),
            licence=licences.get(record["answered_by"]),
            cost_usd=None if cost is None else cost / NANO_PER_USD,
        )
    if not anything:
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise NothingToLearnError(f"the ledger holds no graded answer{why and f' ({why})'}")


def _in_order(engine: Engine, objective: str, second: str | None) -> Iterator[dict[str, Any]]:
    """Records sorted by question, and then by when they were decided.

    Only keys are sorted, and rows fetched by them: texts of a big ledger don't fit into memory.
    """
    with reader(engine).connect() as connection:
        scored = latest_scores(objective).subquery()
        found = connection.execute(
            select(decision.c.decision_id, request.c.prompt)
            .join(request, request.c.request_id == decision.c.request_id)
            .join(scored, scored.c.decision_id == decision.c.decision_id)
            .order_by(decision.c.at, decision.c.decision_id)
        )
        keys = sorted(
            ("" if row.prompt is None else _key(row.prompt), place, row.decision_id)
            for place, row in enumerate(found.yield_per(1000))
        )
        for start in range(0, len(keys), 500):
            ids = [decision_id for _, _, decision_id in keys[start : start + 500]]
            rows = connection.execute(_record(objective, second, ids)).mappings()
            by_id = {row["decision_id"]: dict(row) for row in rows}
            yield from (by_id[decision_id] for decision_id in ids if decision_id in by_id)


def _record(objective: str, second: str | None, among: list[str]) -> Select[Any]:
    scores, cost_of = latest_scores(objective, among).subquery(), request_costs()
    opinions = latest_scores(second, among if second else ()).subquery()
    return (
        select(
            decision.c.decision_id,
            request.c.prompt,
            request.c.tags,
            request_result.c.answered_by,
            request_result.c.answer,
            cost_of.c.cost_nanousd,
            cost_of.c.cost_complete,
            scores.c.score,
            opinions.c.score.label("second"),
        )
        .join(request, request.c.request_id == decision.c.request_id)
        .join(scores, scores.c.decision_id == decision.c.decision_id)
        .join(request_result, request_result.c.request_id == decision.c.request_id)
        .join(cost_of, cost_of.c.request_id == decision.c.request_id)
        .outerjoin(opinions, opinions.c.decision_id == decision.c.decision_id)
    )


def _licences(engine: Engine) -> dict[str, str]:
    """The `licence` tag of each expert's newest card."""
    query = select(expert_card.c.expert_id, expert_card.c.card).order_by(expert_card.c.at)
    with reader(engine).connect() as connection:
        cards = {row.expert_id: row.card for row in connection.execute(query)}
    told = {expert: (card.get("tags") or {}).get("licence") for expert, card in cards.items()}
    return {expert: str(licence) for expert, licence in told.items() if licence}


def _key(prompt: str) -> str:
    return hashlib.blake2b(same_prompt_key(prompt).encode(), digest_size=16).hexdigest()


def _unusable(record: Mapping[str, Any], wanted: Mapping[str, str]) -> str | None:
    if record["prompt"] is None or not record["answer"]:
        return "without their texts (see ledger.text: redacted or full)"
    if record["tags"].get("split") in _HELD_OUT and "split" not in wanted:
        return "held out (tag split=dev or split=test)"
    return None
