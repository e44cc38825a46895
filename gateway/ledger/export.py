"""Logged outcomes as the rows of an outcome table, ready to learn from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Engine, ScalarSelect, and_, case, exists, func, select

from experts.cards import NANO_PER_USD
from gateway.errors import NothingToLearnError
from gateway.ledger.cells import Cells, query_of
from gateway.ledger.costs import attempt_costs
from gateway.ledger.database import reader
from gateway.ledger.shadows import SHADOW_TOKENS, shadow_scores
from gateway.ledger.tables import (
    attempt,
    attempt_result,
    decision,
    outcome,
    request,
    request_result,
)
from routers.records import OutcomeTable

if TYPE_CHECKING:
    from eval.tables.sources import Outcomes

CONFIDENCE = "confidence"
"""The objective of how probable an answer's tokens were: what `collect --logprobs` books."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Export:
    """What came out of the ledger.

    Attributes:
        rows: One per scored answer, in the outcome table's columns.
        left_out: Reason to how many scored answers could not be used.
    """

    rows: tuple[dict[str, Any], ...]
    left_out: Mapping[str, int]


def export_outcomes(
    engine: Engine,
    *,
    objective: str = "quality",
    tags: Mapping[str, str] | None = None,
    named_only: bool = False,
    since: Mapping[str, float] | None = None,
    after: float = 0.0,
    answers: bool = False,
) -> Export:
    """Scored answers of the ledger, the newest score of each decision.

    Requests that carry the tag `query_id` (as `collect` sends them) share a query, so that several
    experts' answers stand in one row of the table; every other request is a query of its own, with
    the propensity of the decision that chose its expert. What shadow calls answered stands beside
    that. Where there are any, the propensity is the chance to be asked in either way.

    Args:
        engine: The ledger.
        objective: Which outcomes count.
        tags: Only requests that carry all of these.
        named_only: Only requests that named their expert, as those of `collect` do.
        since: Expert to the time before which its answers are left out, seconds since 1970.
        after: The same for all of them.
        answers: Whether the answers come along, as `response`, where they were kept.

    Raises:
        NothingToLearnError: No scored answer with its prompt is there.
    """
    left_out: dict[str, int] = {}
    newest_first = export_rows(
        engine,
        left_out,
        objective=objective,
        tags=tags,
        named_only=named_only,
        since=since,
        after=after,
        answers=answers,
    )
    return Export(tuple(newest_first)[::-1], left_out)


def with_doubts(engine: Engine, exported: Export, tags: Mapping[str, str]) -> Export:
    """The same rows with `nll`, None where nothing was booked under `CONFIDENCE`."""
    try:
        sure = export_outcomes(engine, objective=CONFIDENCE, tags=tags).rows
    except NothingToLearnError:
        sure = ()
    nll_of = {(row["query_id"], row["model"]): -log(max(row["score"], _TINY)) for row in sure}
    rows = ({**row, "nll": nll_of.get((row["query_id"], row["model"]))} for row in exported.rows)
    return Export(tuple(rows), exported.left_out)


def as_outcomes(exported: Export) -> Outcomes:
    """What came out of the ledger, by way of the file format that everybody reads."""
    # Not at the top: a gateway that writes no files starts sooner without Arrow.
    from eval.tables.sources import read_outcomes, write_outcomes

    with tempfile.TemporaryDirectory() as scratch:
        return read_outcomes(write_outcomes(exported.rows, Path(scratch) / "ledger.parquet"))


def as_table(exported: Export) -> OutcomeTable:
    """The same without what is beside the table."""
    return as_outcomes(exported).table


def export_rows(
    engine: Engine,
    left_out: dict[str, int],
    *,
    objective: str = "quality",
    tags: Mapping[str, str] | None = None,
    named_only: bool = False,
    since: Mapping[str, float] | None = None,
    after: float = 0.0,
    progress: Callable[[int], None] = lambda _: None,
    answers: bool = False,
) -> Iterator[dict[str, Any]]:
    """The rows of `export_outcomes`, the newest first and never in memory together.

    What is remembered is in `Cells`.

    Args:
        engine: The ledger.
        left_out: Is filled in as rows are read.
        objective: Which outcomes count.
        tags: Only requests that carry all of these.
        named_only: Only requests that named their expert.
        since: Expert to the time before which its answers are left out, seconds since 1970.
        after: The same for all of them.
        progress: Is told of so many more scored answers that were read.
        answers: Whether the answers come along, as `response`, where they were kept.

    Raises:
        NothingToLearnError: At the end, when there was no row.
    """
    cells = Cells()
    last, anything = "", False
    for record in chain(
        _scored(engine, objective, named_only, answers=answers),
        () if named_only else _scored_aside(engine, objective),
    ):
        progress(1)
        if not _has_tags(record["tags"], tags or {}):
            continue
        if record["at"] < max(after, (since or {}).get(record["expert_id"], 0.0)):
            continue
        once = record["decision_id"] + record["expert_id"]
        if once == last:
            continue
        reason = _unusable(record) or cells.other_question(record)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        if not cells.take(record):
            continue
        last, anything = once, True
        row = _row(record)
        yield {**row, "response": record.get("answer")} if answers else row
    if not anything:
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise NothingToLearnError(
            f"the ledger holds no scored answer to learn from{why and f' ({why})'}"
        )


def count_scored(engine: Engine, objective: str = "quality") -> int:
    """How many scores there are, those that others replace included."""
    query = select(func.count()).where(outcome.c.objective == objective)
    with reader(engine).connect() as connection:
        return int(connection.execute(query).scalar_one())


@dataclass(frozen=True, slots=True)
class BookedAnswer:
    """An answer that is in the ledger.

    Attributes:
        decision_id: Of its decision.
        scored: Whether its quality is known.
        text: What it said, if it is not scored and was kept.
    """

    decision_id: str
    scored: bool
    text: str | None


def booked_answers(engine: Engine, tags: Mapping[str, str]) -> dict[tuple[str, str], BookedAnswer]:
    """Query and expert of the answers to requests that carry all of `tags`; scored ones first."""
    scored = exists().where(
        outcome.c.decision_id == decision.c.decision_id, outcome.c.objective == "quality"
    )
    query = (
        select(
            request.c.tags,
            decision.c.expert_id,
            decision.c.decision_id,
            scored.label("scored"),
            case((~scored, request_result.c.answer)).label("text"),
        )
        .join(decision, decision.c.request_id == request.c.request_id)
        .join(request_result, request_result.c.request_id == request.c.request_id)
        .where(
            request_result.c.status == 200,
            request_result.c.answered_by == decision.c.expert_id,
            *(request.c.tags[name].as_string() == value for name, value in tags.items()),
        )
    )
    found: dict[tuple[str, str], BookedAnswer] = {}
    with reader(engine).connect() as connection:
        for row in connection.execute(query):
            pair = row.tags.get("query_id", ""), row.expert_id
            if pair not in found or row.scored:
                found[pair] = BookedAnswer(row.decision_id, bool(row.scored), row.text)
    return found


def _scored(
    engine: Engine, objective: str, named_only: bool, *, answers: bool
) -> Iterable[dict[str, Any]]:
    """The newest score of each decision, the newest first."""
    later = outcome.alias("later")
    replaced = exists().where(
        later.c.decision_id == outcome.c.decision_id,
        later.c.objective == outcome.c.objective,
        (later.c.at > outcome.c.at)
        | ((later.c.at == outcome.c.at) & (later.c.outcome_id > outcome.c.outcome_id)),
    )
    delivered = (attempt.c.decision_id == decision.c.decision_id) & attempt.c.parent_id.is_(None)
    cost_of = attempt_costs()
    query = (
        select(
            request.c.request_id,
            decision.c.decision_id,
            request.c.prompt,
            request.c.tags,
            decision.c.expert_id,
            decision.c.at,
            decision.c.propensity,
            request_result.c.answered_by,
            request_result.c.latency_s,
            request_result.c.shadow,
            cost_of.c.cost_nanousd,
            attempt_result.c.input_tokens,
            attempt_result.c.cache_read_tokens,
            attempt_result.c.cache_write_tokens,
            attempt_result.c.output_tokens,
            attempt_result.c.reasoning_tokens,
            outcome.c.score,
            _calls().label("calls"),
            _spent().label("below_nanousd"),
        )
        .join(decision, decision.c.request_id == request.c.request_id)
        .join(outcome, outcome.c.decision_id == decision.c.decision_id)
        .join(request_result, request_result.c.request_id == request.c.request_id)
        .join(attempt, delivered)
        .join(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)
        .join(cost_of, cost_of.c.attempt_id == attempt.c.attempt_id)
        .where(outcome.c.objective == objective, attempt_result.c.status == "ok", ~replaced)
        .order_by(outcome.c.at.desc(), outcome.c.outcome_id.desc(), attempt.c.ordinal.desc())
    )
    if answers:
        query = query.add_columns(request_result.c.answer)
    if named_only:
        query = query.where(decision.c.router == "explicit")
    with reader(engine).connect() as connection:
        for row in connection.execution_options(yield_per=1000).execute(query):
            yield dict(row._mapping)


def _calls() -> ScalarSelect[Any]:
    """How many priced calls a composition made for a decision; 0 for a model."""
    below = attempt.alias("below").c
    return select(func.count(below.price_id)).where(_made_for(below)).scalar_subquery()


def _spent() -> ScalarSelect[Any]:
    """What they cost, nano-dollars; NULL for a model."""
    below, cost_of = attempt.alias("below"), attempt_costs().alias("cost_below")
    spent = select(func.sum(cost_of.c.cost_nanousd)).select_from(
        below.join(cost_of, cost_of.c.attempt_id == below.c.attempt_id)
    )
    return spent.where(_made_for(below.c)).scalar_subquery()


def _made_for(below: Any) -> ColumnElement[bool]:
    return and_(below.decision_id == decision.c.decision_id, below.parent_id.is_not(None))


def _scored_aside(engine: Engine, objective: str) -> Iterable[dict[str, Any]]:
    """The newest score of each shadow call, like `_scored`."""
    told = shadow_scores(objective).subquery()
    tokens = [told.c[name] for name in SHADOW_TOKENS]
    query = (
        select(
            request.c.request_id,
            request.c.prompt,
            request.c.tags,
            decision.c.decision_id,
            decision.c.at,
            decision.c.candidates,
            request_result.c.shadow,
            told.c.expert_id,
            told.c.expert_id.label("answered_by"),
            told.c.score,
            told.c.latency_s,
            case((told.c.known, told.c.cost_nanousd)).label("cost_nanousd"),
            *tokens,
        )
        .join(decision, decision.c.decision_id == told.c.decision_id)
        .join(request, request.c.request_id == decision.c.request_id)
        .join(request_result, request_result.c.request_id == request.c.request_id)
        .order_by(decision.c.at.desc(), decision.c.decision_id.desc(), told.c.expert_id)
    )
    with reader(engine).connect() as connection:
        for row in connection.execution_options(yield_per=1000).execute(query):
            record = dict(row._mapping)
            weighed = record.pop("candidates")
            place = weighed["experts"].index(record["expert_id"])
            yield {**record, "propensity": weighed["probability"][place]}


def _chance(record: Mapping[str, Any]) -> float:
    """Of the expert to be asked: drawn, or else in the shadow of who was."""
    drawn = float(record["propensity"])
    aside = (record["shadow"] or {}).get(record["expert_id"], 0.0)
    return drawn + (1 - drawn) * float(aside)


def _has_tags(carried: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(carried.get(name) == value for name, value in wanted.items())


def _unusable(record: Mapping[str, Any]) -> str | None:
    if record["prompt"] is None:
        return "without their prompts (see ledger.text: redacted or full)"
    if record["answered_by"] != record["expert_id"]:
        # The fallback's answer was not drawn, so it has no propensity to learn with.
        return "answered by a fallback"
    return None


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """One row; tokens of a composition are those of one of its calls, on average.

    Its price is that of all its calls together, so with all their tokens they would count twice.
    """
    tags = record["tags"]
    cost = record["cost_nanousd"]
    if (spent := record.get("below_nanousd")) is not None:
        # A composition's own call costs nothing.
        cost = int(spent)
    return {
        "query_id": query_of(record) or record["request_id"],
        "task": tags.get("task"),
        "prompt": record["prompt"],
        "model": record["answered_by"],
        "score": record["score"],
        "prompt_tokens": _sum(record, "input_tokens", "cache_read_tokens", "cache_write_tokens"),
        "completion_tokens": _sum(record, "output_tokens", "reasoning_tokens"),
        "cost_usd": None if cost is None else cost / NANO_PER_USD,
        "latency_s": record["latency_s"],
        "propensity": _chance(record),
        "split": tags.get("split"),
    }


def _sum(record: Mapping[str, Any], *names: str) -> int | None:
    values = [record[name] for name in names]
    return None if None in values else round(sum(values) / max(record.get("calls", 1), 1))
