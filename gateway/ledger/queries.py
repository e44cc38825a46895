"""What the ledger can be asked. Reads only, and never on the request path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine, Row, Select, Table, func, select

from experts.cards import NANO_PER_USD
from gateway.ledger.costs import attempt_costs, request_costs
from gateway.ledger.database import reader
from gateway.ledger.rollup import by_expert, summed, total
from gateway.ledger.rows import decision_of
from gateway.ledger.scores import QUALITY, latest_scores
from gateway.ledger.shadows import shadows_of
from gateway.ledger.tables import (
    attempt,
    attempt_result,
    attempt_trace,
    cache_hit,
    cost_correction,
    decision,
    guard_action,
    outcome,
    price,
    request,
    request_result,
    shadow_call,
    shadow_outcome,
    shadow_result,
)
from routers.explaining.explain import explain
from routers.explore import draw


class LedgerReader:
    """Queries for pages, commands and `GET /v1/decisions/{id}`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = reader(engine)

    def key_of(self, decision_id: str) -> str | None:
        """Name of the key whose request it was, None if there is no such decision."""
        query = (
            select(request.c.key_name)
            .join(decision, decision.c.request_id == request.c.request_id)
            .where(decision.c.decision_id == decision_id)
        )
        found = self._all(query)
        return str(found[0][0]) if found else None

    def keys_of(self, decision_ids: Sequence[str]) -> dict[str, str]:
        """`key_of` for many decisions; those that do not exist are left out."""
        query = select(decision.c.decision_id, request.c.key_name).join(
            request, decision.c.request_id == request.c.request_id
        )
        found = self._all(query.where(decision.c.decision_id.in_(decision_ids)))
        return {row.decision_id: row.key_name for row in found}

    def outcomes(self, outcome_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The rows of these outcomes, by their ids; those that do not exist are left out."""
        found = self._all(select(outcome).where(outcome.c.outcome_id.in_(outcome_ids)))
        return {row.outcome_id: _plain(row) for row in found}

    def decision(self, decision_id: str) -> dict[str, Any] | None:
        """The whole record of one decision, or None: candidates, attempts, cost tree, outcomes."""
        found = self._all(select(decision).where(decision.c.decision_id == decision_id))
        if not found:
            return None
        record = _plain(found[0])
        request_id = record["request_id"]
        asked = self._all(select(request).where(request.c.request_id == request_id))
        ended = self._all(select(request_result).where(request_result.c.request_id == request_id))
        hit = self._all(select(cache_hit).where(cache_hit.c.request_id == request_id))
        guarded = self._all(select(guard_action).where(guard_action.c.request_id == request_id))
        corrections = self._corrections(request_id)
        attempts = corrected(self._attempts(decision_id), corrections)
        decided = decision_of(record)
        again = decided.candidates.experts[draw(decided.probabilities_A, decided.draw)]
        return {
            **record,
            "request": _plain(asked[0]),
            "result": _plain(ended[0]) if ended else None,
            "attempts": attempts,
            "corrections": corrections,
            "cost": _cost_tree(attempts),
            "guards": [_plain(row) for row in guarded],
            "cache_hit": _plain(hit[0]) if hit else None,
            "outcomes": self._outcomes(decision_id),
            "shadows": shadows_of(self._engine, decision_id),
            "explanation": explain(decided),
            "replay": {"expert": again, "matches": again == decided.expert},
        }

    def calls(self, decision_id: str) -> list[dict[str, Any]]:
        """The attempts of one decision with what they cost, children inside their parents."""
        found = self._all(
            select(decision.c.request_id).where(decision.c.decision_id == decision_id)
        )
        corrections = [each for row in found for each in self._corrections(row.request_id)]
        return _branches(corrected(self._attempts(decision_id), corrections), None)

    def _attempts(self, decision_id: str) -> list[dict[str, Any]]:
        joined = attempt.outerjoin(
            attempt_result, attempt.c.attempt_id == attempt_result.c.attempt_id
        ).outerjoin(price, attempt.c.price_id == price.c.price_id)
        ended = [column for column in attempt_result.c if column.name not in ("attempt_id", "at")]
        query = (
            select(attempt, *ended, price.c.source.label("price_source"))
            .select_from(joined)
            .where(attempt.c.decision_id == decision_id)
            .order_by(attempt.c.ordinal)
        )
        traces = self._traces(decision_id)
        attempts = [_plain(row) for row in self._all(query)]
        return [{**each, "trace": traces.get(each["attempt_id"], [])} for each in attempts]

    def _traces(self, decision_id: str) -> dict[str, list[dict[str, Any]]]:
        """Attempt to its steps: what was recorded of each, and in `text` what was written."""
        query = (
            select(attempt_trace.c.attempt_id, attempt_trace.c.record, attempt_trace.c.text)
            .join(attempt, attempt.c.attempt_id == attempt_trace.c.attempt_id)
            .where(attempt.c.decision_id == decision_id)
            .order_by(attempt_trace.c.attempt_id, attempt_trace.c.ordinal)
        )
        found: dict[str, list[dict[str, Any]]] = {}
        for row in map(_plain, self._all(query)):
            text = {"text": row["text"]} if row["text"] else {}
            found.setdefault(row["attempt_id"], []).append({**row["record"], **text})
        return found

    def _corrections(self, request_id: str) -> list[dict[str, Any]]:
        query = (
            select(cost_correction)
            .where(cost_correction.c.request_id == request_id)
            .order_by(cost_correction.c.at, cost_correction.c.ordinal)
        )
        return [_plain(row) for row in self._all(query)]

    def _outcomes(self, decision_id: str) -> list[dict[str, Any]]:
        query = select(outcome).where(outcome.c.decision_id == decision_id).order_by(outcome.c.at)
        return [_plain(row) for row in self._all(query)]

    def summary(
        self, progress: Callable[[int], None] = lambda _: None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """`totals` and `by_expert` of all time; `progress` is told of days that are summed up."""
        sums = summed(self._engine, progress=progress)
        return total(sums), by_expert(sums)

    def totals(self, since: float = 0.0) -> dict[str, Any]:
        """Requests, failures, dollars (all, wasted and saved), mean quality score and its count."""
        return self._totals(since) if since else total(summed(self._engine))

    def _totals(self, since: float) -> dict[str, Any]:
        ended, cost_of = request_result.c, request_costs()
        query: Select[Any] = (
            select(
                func.count(),
                func.count().filter(ended.status >= 400),
                func.coalesce(func.sum(cost_of.c.cost_nanousd), 0),
                func.count().filter(cost_of.c.cost_complete.is_(False)),
            )
            .select_from(request_result)
            .join(cost_of, cost_of.c.request_id == ended.request_id)
            .where(ended.at >= since)
        )
        requests, failed, cost, unpriced = tuple(self._all(query)[0])
        paid = attempt_costs()
        wasted = (
            select(func.coalesce(func.sum(paid.c.cost_nanousd), 0))
            .select_from(attempt_result)
            .join(paid, paid.c.attempt_id == attempt_result.c.attempt_id)
            .where(attempt_result.c.wasted.is_(True), attempt_result.c.at >= since)
        )
        scored: Select[Any] = select(func.count(), func.avg(outcome.c.score)).where(
            outcome.c.at >= since, outcome.c.objective == QUALITY
        )
        outcomes, mean = tuple(self._all(scored)[0])
        again: Select[Any] = select(
            func.count(), func.coalesce(func.sum(cache_hit.c.saved_nanousd), 0)
        ).where(cache_hit.c.at >= since)
        hits, saved = tuple(self._all(again)[0])
        return {
            "requests": requests,
            "failed": failed,
            "cost_usd": int(cost) / NANO_PER_USD,
            "wasted_usd": int(self._all(wasted)[0][0]) / NANO_PER_USD,
            "unpriced": unpriced,
            "cache_hits": hits,
            "saved_usd": int(saved) / NANO_PER_USD,
            **self._shadows(since),
            "outcomes": outcomes,
            "mean_score": None if mean is None else float(mean),
        }

    def _shadows(self, since: float) -> dict[str, Any]:
        made = shadow_result.c
        query: Select[Any] = (
            select(
                func.count().filter(shadow_call.c.root_id == made.call_id),
                func.coalesce(func.sum(made.cost_nanousd), 0),
            )
            .select_from(shadow_result)
            .join(shadow_call, shadow_call.c.call_id == made.call_id)
            .where(made.at >= since)
        )
        scored: Select[Any] = select(func.count()).where(
            shadow_outcome.c.at >= since, shadow_outcome.c.objective == QUALITY
        )
        calls, cost = tuple(self._all(query)[0])
        return {
            "shadow_calls": calls,
            "shadow_usd": int(cost) / NANO_PER_USD,
            "shadow_outcomes": int(self._all(scored)[0][0]),
        }

    def by_expert(self, since: float = 0.0) -> list[dict[str, Any]]:
        """Per answering expert: requests, dollars, seconds, mean score; busiest first."""
        return self._by_expert(since) if since else by_expert(summed(self._engine))

    def _by_expert(self, since: float) -> list[dict[str, Any]]:
        ended, cost_of = request_result.c, request_costs()
        scores = latest_scores(QUALITY).subquery()
        query = (
            select(
                ended.answered_by.label("expert"),
                func.count().label("requests"),
                func.sum(cost_of.c.cost_nanousd).label("cost_nanousd"),
                func.avg(ended.latency_s).label("latency_s"),
                func.count(scores.c.score).label("scored"),
                func.avg(scores.c.score).label("score"),
            )
            .select_from(request_result)
            .join(cost_of, cost_of.c.request_id == ended.request_id)
            .outerjoin(decision, decision.c.request_id == ended.request_id)
            .outerjoin(scores, scores.c.decision_id == decision.c.decision_id)
            .where(ended.answered_by.is_not(None), ended.at >= since)
            .group_by(ended.answered_by)
            .order_by(func.count().desc())
        )
        return [_with_dollars(row) for row in self._all(query)]

    def recent(self, limit: int = 25) -> list[dict[str, Any]]:
        """The newest requests with who answered, why and for how much."""
        ended = request_result.c
        query = (
            select(
                request.c.at,
                request.c.model_asked,
                request.c.key_name,
                request.c.prompt,
                decision.c.decision_id,
                decision.c.policy,
                decision.c.propensity,
                ended.status,
                ended.answered_by,
                ended.cost_nanousd,
                ended.cost_complete,
                ended.latency_s,
            )
            .select_from(request)
            .join(decision, decision.c.request_id == request.c.request_id)
            .outerjoin(request_result, ended.request_id == request.c.request_id)
            .order_by(request.c.at.desc())
            .limit(limit)
        )
        return [_with_dollars(row) for row in self._all(query)]

    def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def count(self, table: Table) -> int:
        """Rows of one table."""
        return int(self._all(select(func.count()).select_from(table))[0][0])


def corrected(
    attempts: Sequence[dict[str, Any]], corrections: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Attempts with what they cost after corrections; `booked_nanousd` is what it was before."""
    newest = {each["attempt_id"]: each["new_nanousd"] for each in corrections}
    return [
        {
            **each,
            "cost_nanousd": newest.get(each["attempt_id"], each["cost_nanousd"]),
            "booked_nanousd": each["cost_nanousd"],
        }
        for each in attempts
    ]


def _cost_tree(attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Dollars of a decision and of each attempt under it, children inside their parents."""
    known = [a["cost_nanousd"] for a in attempts if a["cost_nanousd"] is not None]
    wasted = [a["cost_nanousd"] or 0 for a in attempts if a["wasted"]]
    return {
        "total_usd": sum(known) / NANO_PER_USD,
        "wasted_usd": sum(wasted) / NANO_PER_USD,
        "complete": all(_is_priced(a) for a in attempts),
        "attempts": _branches(attempts, None),
    }


def _branches(attempts: Sequence[dict[str, Any]], parent: str | None) -> list[dict[str, Any]]:
    return [
        {
            "attempt_id": a["attempt_id"],
            "expert": a["expert_id"],
            "status": a["status"] or "open",
            "cost_usd": None if a["cost_nanousd"] is None else a["cost_nanousd"] / NANO_PER_USD,
            "children": _branches(attempts, a["attempt_id"]),
        }
        for a in attempts
        if a["parent_id"] == parent
    ]


def _is_priced(record: dict[str, Any]) -> bool:
    unbilled = record["status"] in ("failed", "not_sent") and record["input_tokens"] is None
    return record["cost_nanousd"] is not None or unbilled


def _plain(row: Row[Any]) -> dict[str, Any]:
    # SQLAlchemy's column names are a subclass of str, which JSON writers refuse as keys.
    return {str(name): value for name, value in row._mapping.items()}


def _with_dollars(row: Row[Any]) -> dict[str, Any]:
    record = _plain(row)
    nano = record.pop("cost_nanousd")
    return {**record, "cost_usd": None if nano is None else int(nano) / NANO_PER_USD}
