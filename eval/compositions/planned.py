"""From recorded answers to cascade routing that can be configured: whom to ask next, or to stop."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.compositions.answers import same_answers
from eval.compositions.drafts import DraftTable
from eval.compositions.fitting import judged
from eval.compositions.world import expected_usd, rehearsed
from eval.errors import ComparisonError
from routers.cascading.posterior import Seen
from routers.cascading.replay import Replay
from routers.cascading.routing import CascadeRouting
from routers.deferral.cross_fitted import CrossFittedScorer
from routers.estimators.folds import group_folds, others
from routers.fitting.fit import encode_table, fit_router
from routers.fitting.recipe import DEFAULT, Recipe
from routers.records import Floats, OutcomeTable

_FOLDS = 3

Way = tuple[float, float]
"""Mean score and mean dollars."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedPlan:
    """Cascade routing, and what to expect of it on other requests.

    Attributes:
        rule: Fitted on all rows.
        scorer: What judges answers; None where their samples' agreement does.
        by: `scorer` or `agreement`.
        usd_weight: Quality, in [0, 1], that a dollar has to bring.
        queries: How many it was fitted on.
        planned: What it came to on held-out folds.
        routed: What choosing one expert before any answer came to there, at the same weight.
    """

    rule: CascadeRouting
    scorer: CrossFittedScorer | None
    by: str
    usd_weight: float
    queries: int
    planned: Way
    routed: Way


def fit_plan(
    table: OutcomeTable,
    drafts: DraftTable,
    experts: Sequence[str],
    key: Callable[[str], Hashable],
    *,
    usd_weight: float | None = None,
    budget_usd: float | None = None,
    depth: int = 3,
    estimator: str = DEFAULT,
    seed: int = 0,
    judge: str = "tfidf",
) -> FittedPlan:
    """Learn what answers tell of each other, and the weight of a dollar that spends a budget.

    Args:
        table: Graded answers with their costs.
        drafts: The answers, or how many of their samples agree.
        experts: Whom it may ask.
        key: Equal for answers that say the same.
        usd_weight: What a dollar has to bring; this or a budget.
        budget_usd: Mean dollars per request to spend.
        depth: Most answers to a request.
        estimator: Of the router that will say what to expect of each before anyone is asked.
        seed: Source of all randomness.
        judge: The encoder through which answers are judged.

    Raises:
        ComparisonError: Not exactly one of weight and budget, too few queries, or neither answers
            nor samples.
    """
    if (usd_weight is None) == (budget_usd is None):
        raise ComparisonError("say one of the weight of a dollar and a budget")
    rng = np.random.default_rng(seed)
    graded = judged(table, drafts, experts, rng, judge)
    known, same_NAA = graded.table, None
    if graded.drafts.has_answers:
        answers_NA = graded.drafts.answers_NA
        same_NAA = same_answers(known.prompts, answers_NA, lambda _, answer: key(answer))
    encoded = encode_table(Recipe.read(estimator).encoder, known, seed)
    router = fit_router("before", estimator, known, seed=seed, encoded=encoded)
    ante_NA, _ = rehearsed(router, encoded, known, estimator, seed)
    seen = Seen(ante_NA, graded.signal_NA, same_NAA)
    usd_NA, _ = expected_usd(known, known)
    rule = CascadeRouting.fit(known.experts, seen, known.score_NA, known.groups, rng, depth=depth)
    if usd_weight is None:
        usd_weight = Replay(rule, seen, usd_NA).price_for(budget_usd or 0.0)
    ways = _held_out(known, seen, usd_NA, usd_weight, depth, rng)
    return FittedPlan(rule, graded.scorer, graded.by, usd_weight, len(known), ways[depth], ways[1])


def _held_out(
    known: OutcomeTable,
    seen: Seen,
    usd_NA: Floats,
    usd_weight: float,
    depth: int,
    rng: np.random.Generator,
) -> dict[int, Way]:
    """What the rule, and routing alone, come to on folds that they were not fitted on."""
    score, usd = {1: 0.0, depth: 0.0}, {1: 0.0, depth: 0.0}
    for held in group_folds(known.groups, _FOLDS, rng):
        kept = others(held, len(known))
        groups = [known.groups[row] for row in kept]
        rule = CascadeRouting.fit(
            known.experts, seen.take(kept), known.score_NA[kept], groups, rng, depth=depth
        )
        replay = Replay(rule, seen.take(held), usd_NA[held])
        for most in score:
            trip = replay.run(usd_weight, most)
            score[most] += float(trip.score(known.score_NA[held]).sum()) / len(known)
            usd[most] += float(trip.usd(known.cost_usd_NA[held]).sum()) / len(known)
    return {most: (score[most], usd[most]) for most in score}
