"""The experts that two tables can be compared on, and what their tokens cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.errors import ComparisonError
from eval.tables.prices import fill_costs, fit_prices
from experts.cards import Prices
from routers.records import OutcomeTable

_ENOUGH_PRICED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class TrainTestPool:
    """Two tables over the same experts.

    Attributes:
        train: What routers learn from.
        test: What they are judged by.
        prices: What the policies reckon with; None where unknown.
        costs_known: Whether costs can be compared; if not, both tables hold none.
        left_out: Expert to the reason why it takes no part.
        notes: What a reader must know, as whole sentences.
    """

    train: OutcomeTable
    test: OutcomeTable
    prices: Mapping[str, Prices | None]
    costs_known: bool
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def make_pool(
    train: OutcomeTable, test: OutcomeTable, prices: Mapping[str, Prices | None] | None
) -> TrainTestPool:
    """Bring two tables to the experts that both have scores of, and settle what is known of costs.

    Recorded costs stay as they are. Where none was recorded, `prices` and the tokens give it.
    Where most experts have costs, those without any are left out, because they have no place on a
    cost axis; where most have none, all stay and only quality is compared.

    Raises:
        ComparisonError: Fewer than two experts are left.
    """
    left_out: dict[str, str] = {}
    for expert in {*train.experts, *test.experts}:
        for side, table in (("training", train), ("test", test)):
            if not _has(table, expert, "score"):
                left_out[expert] = f"has no score on the {side} side"
    shared = [expert for expert in train.experts if expert not in left_out]
    train, test = with_experts(train, shared), with_experts(test, shared)
    train, test = fill_costs(train, prices or {}), fill_costs(test, prices or {})
    priced = [e for e in shared if _has(train, e, "cost") and _has(test, e, "cost")]
    costs_known = len(priced) >= max(2, _ENOUGH_PRICED * len(shared))
    if costs_known:
        left_out |= {expert: "has no known cost" for expert in shared if expert not in priced}
        train, test = with_experts(train, priced), with_experts(test, priced)
    else:
        train, test = _without_costs(train), _without_costs(test)
    if len(train.experts) < 2:
        found = ", ".join(train.experts) or "none"
        raise ComparisonError(f"routing needs two experts scored on both sides; found {found}")
    settled = _settled_prices(train, prices, costs_known)
    notes = _notes(left_out, costs_known)
    return TrainTestPool(train, test, settled, costs_known, dict(sorted(left_out.items())), notes)


def with_experts(table: OutcomeTable, experts: Sequence[str]) -> OutcomeTable:
    """The same table with only these columns, which it must have."""
    columns = [table.experts.index(expert) for expert in experts]
    return replace(
        table,
        experts=tuple(experts),
        score_NA=table.score_NA[:, columns],
        prompt_tokens_NA=table.prompt_tokens_NA[:, columns],
        output_tokens_NA=table.output_tokens_NA[:, columns],
        cost_usd_NA=table.cost_usd_NA[:, columns],
        latency_s_NA=table.latency_s_NA[:, columns],
        propensity_NA=table.propensity_NA[:, columns],
    )


def _has(table: OutcomeTable, expert: str, what: str) -> bool:
    if expert not in table.experts:
        return False
    column = table.experts.index(expert)
    values_N = table.score_NA[:, column]
    if what == "cost":
        values_N = values_N + table.cost_usd_NA[:, column]
    return bool((~np.isnan(values_N)).any())


def _without_costs(table: OutcomeTable) -> OutcomeTable:
    return replace(table, cost_usd_NA=np.full(table.cost_usd_NA.shape, np.nan))


def _settled_prices(
    train: OutcomeTable, prices: Mapping[str, Prices | None] | None, costs_known: bool
) -> dict[str, Prices | None]:
    if not costs_known:
        return dict.fromkeys(train.experts)
    fitted = fit_prices(train)
    return {expert: (prices or {}).get(expert) or fitted[expert] for expert in train.experts}


def _notes(left_out: Mapping[str, str], costs_known: bool) -> tuple[str, ...]:
    notes = []
    for reason in sorted(set(left_out.values())):
        names = sorted(expert for expert, why in left_out.items() if why == reason)
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        verb, pronoun = ("takes", "it") if len(names) == 1 else ("take", "each")
        notes.append(
            f"{len(names)} of the experts {verb} no part, since {pronoun} {reason}: {shown}."
        )
    if not costs_known:
        notes.append(
            "Most costs are unknown, so only quality is compared. A price list would change that."
        )
    return tuple(notes)
