"""What a router decided and what came of it, as off-policy evaluation reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Engine, Select, case, func, select

from eval.ope.logged import Logged, Served
from eval.ope.sampled import chances_seen
from experts.cards import NANO_PER_USD, Prices
from gateway.errors import NothingToLearnError
from gateway.ledger.costs import request_costs
from gateway.ledger.database import reader
from gateway.ledger.scores import latest_scores
from gateway.ledger.shadows import shadow_scores
from gateway.ledger.tables import (
    attempt,
    cost_correction,
    decision,
    price,
    request,
    request_result,
)
from routers.records import FAILED, UNEXPLORED, Floats, OutcomeTable, Preference

_CHUNK, _PASSED = 1000, 10_000
_NO_LABELS = {"query_id", "split"}
_MOST_VALUES = 50


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The decisions of one router.

    Attributes:
        logged: Oldest first. A score and a cost belong to the expert that was *drawn*, whoever
            answered in the end: what a fallback did and cost is a consequence of that choice.
            Beside it stand the scores of others, from shadow calls.
        served: The score and the cost of each request, without those.
        preferences: What each request asked for, length N.
        policies: The policy that each was decided by, length N.
        versions: The version of the router that decided each, length N.
        at_N: When each was decided, seconds since 1970.
        left_out: Reason to how many decisions could not be used.
        labels: What requests can be told apart by (`key`, `task` and the names of tags), each to
            the value of every request.
    """

    logged: Logged
    served: Served
    preferences: tuple[Preference, ...]
    policies: tuple[str, ...]
    versions: tuple[str, ...]
    at_N: Floats
    left_out: Mapping[str, int]
    labels: Mapping[str, Sequence[str | None]]


def history(
    engine: Engine,
    router: str,
    *,
    objective: str = "quality",
    since: float = 0.0,
    until: float = float("inf"),
    most: int | None = None,
    newest: int | None = None,
    seed: int = 0,
) -> History:
    """Read what `router` decided, with the newest score of each decision where there is one.

    Args:
        engine: The ledger.
        router: Its name; all of its versions count, each with the distribution it drew from.
        objective: Which scores.
        since: Seconds since 1970.
        until: Seconds since 1970; decisions at this time are left out.
        most: Of more decisions than this, so many are drawn at random and stand for all.
        newest: Only so many of the newest decisions.
        seed: What they are drawn by.

    Raises:
        NothingToLearnError: No usable decision of that router is there.
    """
    left_out: dict[str, int] = {}
    kept = []
    if newest is not None:
        since = max(since, _since_newest(engine, router, (since, until), newest))
    chosen = None if most is None else _drawn(engine, router, (since, until), most, seed, left_out)
    for record in _decisions(engine, router, objective, (since, until), chosen):
        reason = _unusable(record)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            kept.append(record)
    if not kept:
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise NothingToLearnError(
            f"the ledger holds no decision of router {router!r} to judge by{why and f' ({why})'}"
        )
    return _history(kept, left_out, _shadows(engine, router, objective, (since, until)))


def _shadows(
    engine: Engine, router: str, objective: str, span: tuple[float, float]
) -> dict[str, list[dict[str, Any]]]:
    """Decision to the scored answers of others that were asked as well."""
    found: dict[str, list[dict[str, Any]]] = {}
    with reader(engine).connect() as connection:
        rows = connection.execution_options(yield_per=_CHUNK).execute(
            shadow_scores(objective, router, span)
        )
        for row in rows:
            found.setdefault(row.decision_id, []).append(dict(row._mapping))
    return found


def latest_prices(engine: Engine) -> dict[str, Prices | None]:
    """The newest price of every expert that ever had one; corrections of old ones come last.

    A price that is back is booked as before, so of several the one of the last call counts.
    """
    corrects = price.c.price_id.in_(select(cost_correction.c.price_id))
    query = select(price).order_by(case((corrects, 0), else_=1), price.c.at)
    with reader(engine).connect() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
        booked = {row["price_id"]: row for row in rows}
        newest = {row["expert_id"]: row for row in rows}
        several = Counter(row["expert_id"] for row in rows)
        for expert in (expert for expert, count in several.items() if count > 1):
            query = _last_price(expert, newest[expert]["at"])
            if (last := connection.execute(query).scalar_one_or_none()) is not None:
                newest[expert] = booked[last]
    return {
        expert: Prices(
            row["input"],
            row["output"],
            cache_read=row["cache_read"],
            cache_write=row["cache_write"],
            request=row["request"],
            source=row["source"],
        )
        for expert, row in newest.items()
    }


def _last_price(expert: str, since: float) -> Select[Any]:
    """What an expert was last asked at, if it was asked since a time."""
    return (
        select(attempt.c.price_id)
        .join(decision, decision.c.decision_id == attempt.c.decision_id)
        .where(
            attempt.c.expert_id == expert,
            attempt.c.price_id.is_not(None),
            decision.c.at >= since,
        )
        .order_by(decision.c.at.desc(), attempt.c.ordinal.desc())
        .limit(1)
    )


def _drawn(
    engine: Engine,
    router: str,
    span: tuple[float, float],
    most: int,
    seed: int,
    left_out: dict[str, int],
) -> list[str] | None:
    """Some decisions in their order, or None: there are few enough to take all of them."""
    within = _within(router, span)
    with reader(engine).connect() as connection:
        count = connection.execute(select(func.count()).select_from(decision).where(*within))
        there = int(count.scalar_one())
        if there <= most:
            return None
        left_out[f"since {most:,} drawn at random stand for all {there:,}"] = there - most
        places = np.sort(np.random.default_rng(seed).choice(there, most, replace=False))
        query = select(decision.c.decision_id).where(*within).order_by(decision.c.at)
        ids = connection.execution_options(stream_results=True).execute(query)
        drawn: list[str] = []
        # All pass by, and are never in memory together.
        for number, passed in enumerate(ids.partitions(_PASSED)):
            first = number * _PASSED
            here = places[np.searchsorted(places, first) : np.searchsorted(places, first + _PASSED)]
            drawn += [passed[place].decision_id for place in here - first]
    return drawn


def _since_newest(engine: Engine, router: str, span: tuple[float, float], newest: int) -> float:
    """When the oldest of so many of the newest decisions was made; 0 where there are fewer."""
    query = select(decision.c.at).where(*_within(router, span)).order_by(decision.c.at.desc())
    with reader(engine).connect() as connection:
        found = connection.execute(query.offset(newest - 1).limit(1)).scalar_one_or_none()
    return 0.0 if found is None else float(found)


def _within(router: str, span: tuple[float, float]) -> tuple[ColumnElement[bool], ...]:
    return decision.c.router == router, decision.c.at >= span[0], decision.c.at < span[1]


def _decisions(
    engine: Engine,
    router: str,
    objective: str,
    span: tuple[float, float],
    chosen: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    with reader(engine).connect() as connection:
        if chosen is None:
            query = _record(objective, None).where(*_within(router, span))
            for row in connection.execution_options(yield_per=_CHUNK).execute(query):
                yield dict(row._mapping)
            return
        for start in range(0, len(chosen), _CHUNK):
            part = chosen[start : start + _CHUNK]
            rows = {row.decision_id: row for row in connection.execute(_record(objective, part))}
            yield from (dict(rows[name]._mapping) for name in part if name in rows)


def _record(objective: str, among: Sequence[str] | None) -> Select[Any]:
    scores, cost_of = latest_scores(objective, among).subquery(), request_costs()
    query: Select[Any] = (
        select(
            decision.c.decision_id,
            decision.c.at,
            decision.c.candidates,
            decision.c.preference,
            decision.c.policy,
            decision.c.version,
            decision.c.expert_id,
            decision.c.propensity,
            decision.c.flags,
            request.c.request_id,
            request.c.prompt,
            request.c.session,
            request.c.tags,
            request.c.key_name,
            cost_of.c.cost_nanousd,
            cost_of.c.cost_complete,
            request_result.c.latency_s,
            request_result.c.shadow,
            scores.c.score,
        )
        .join(request, request.c.request_id == decision.c.request_id)
        .join(request_result, request_result.c.request_id == decision.c.request_id)
        .join(cost_of, cost_of.c.request_id == request.c.request_id)
        .outerjoin(scores, scores.c.decision_id == decision.c.decision_id)
    )
    if among is None:
        return query.order_by(decision.c.at, decision.c.decision_id)
    # Ordered, SQLite would rather look through all decisions than look a few up.
    return query.where(decision.c.decision_id.in_(among))


def _unusable(record: Mapping[str, Any]) -> str | None:
    if record["prompt"] is None:
        return "without their prompts (see ledger.text: redacted or full)"
    if UNEXPLORED in record["flags"]:
        # No other expert had a chance, on purpose: such a decision can be compared with nothing.
        return "made without exploration"
    if FAILED in record["flags"]:
        # The default expert answered for certain, whatever the router would have said.
        return "made for a router that had failed"
    if None in record["candidates"]["probability"]:
        return "without the distribution they were drawn from"
    return None


def _history(
    records: list[dict[str, Any]],
    left_out: Mapping[str, int],
    shadows: Mapping[str, Sequence[Mapping[str, Any]]],
) -> History:
    experts = tuple(sorted({name for each in records for name in each["candidates"]["experts"]}))
    column = {expert: place for place, expert in enumerate(experts)}
    shape = (len(records), len(experts))
    logged_NA, eligible_NA = np.zeros(shape), np.zeros(shape, dtype=bool)
    score_NA, cost_NA, latency_NA, unknown_NA = (np.full(shape, np.nan) for _ in range(4))
    asked_NA, drawn_N = np.zeros(shape), np.zeros(len(records), dtype=np.intp)
    for row, record in enumerate(records):
        weighed = record["candidates"]
        columns = [column[expert] for expert in weighed["experts"]]
        logged_NA[row, columns] = weighed["probability"]
        eligible_NA[row, columns] = True
        drawn = drawn_N[row] = column[record["expert_id"]]
        for expert, chance in (record["shadow"] or {}).items():
            asked_NA[row, column[expert]] = chance
        latency_NA[row, drawn] = record["latency_s"]
        if record["score"] is not None:
            score_NA[row, drawn] = record["score"]
        if record["cost_complete"]:
            cost_NA[row, drawn] = record["cost_nanousd"] / NANO_PER_USD
    own = np.arange(len(records)), drawn_N
    served = Served(score_NA[own], cost_NA[own])
    for row, record in enumerate(records):
        for told in shadows.get(record["decision_id"], ()):
            cell = row, column[told["expert_id"]]
            score_NA[cell], latency_NA[cell] = told["score"], told["latency_s"]
            if told["known"]:
                cost_NA[cell] = told["cost_nanousd"] / NANO_PER_USD
            # Chances are those of being scored: a cost that is seen oftener would weigh too much.
            cost_NA[row, np.isnan(score_NA[row])] = np.nan
    chance_NA, aside_NA = chances_seen(logged_NA, asked_NA, drawn_N, ~np.isnan(score_NA))
    known_NA = ~np.isnan(score_NA) | ~np.isnan(cost_NA)
    known_NA[own] = True
    table = OutcomeTable(
        query_ids=tuple(record["decision_id"] for record in records),
        prompts=tuple(record["prompt"] for record in records),
        tasks=tuple(record["tags"].get("task") for record in records),
        groups=tuple(record["session"] or record["request_id"] for record in records),
        experts=experts,
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=cost_NA,
        latency_s_NA=latency_NA,
        propensity_NA=np.where(known_NA, chance_NA, np.nan),
    )
    return History(
        Logged(table, logged_NA, eligible_NA, aside_NA if aside_NA.any() else None),
        served,
        tuple(Preference(**record["preference"]) for record in records),
        tuple(record["policy"] for record in records),
        tuple(record["version"] for record in records),
        np.array([record["at"] for record in records], dtype=np.float64),
        dict(left_out),
        _labels(records),
    )


def _labels(records: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str | None, ...]]:
    names = sorted({name for record in records for name in record["tags"]} - _NO_LABELS)
    labels: dict[str, tuple[str | None, ...]] = {
        name: tuple(record["tags"].get(name) for record in records) for name in names
    }
    labels["key"] = tuple(record["key_name"] for record in records)
    # A tag of its own for each request tells nothing apart.
    return {name: of for name, of in labels.items() if len(set(of)) <= _MOST_VALUES}
