"""From recorded answers to a cascade that can be configured: who is asked, and until what score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.compositions.drafts import DraftTable
from eval.compositions.world import complete, judged_answers, judged_samples
from eval.errors import ComparisonError
from routers.deferral.chain import Chain, LoggedDrafts
from routers.deferral.cross_fitted import CrossFittedScorer
from routers.deferral.selection import Goal, select
from routers.deferral.threshold import DeferralThreshold
from routers.records import Floats, OutcomeTable

_FEWEST = 40


@dataclass(frozen=True, slots=True, eq=False)
class FittedCascade:
    """A cascade, and what it is expected to do for requests like those it was fitted on.

    Attributes:
        chain: Experts and thresholds, with the quality and cost to be expected on other requests;
            of one fitted to a risk, those it had on these.
        scorer: What judges drafts; None where their samples' agreement does.
        logged: What it was fitted on.
        by: `scorer` or `agreement`.
    """

    chain: Chain
    scorer: CrossFittedScorer | None
    logged: LoggedDrafts
    by: str


def fit_cascade(
    table: OutcomeTable,
    drafts: DraftTable,
    experts: Sequence[str],
    *,
    budget_usd: float | None = None,
    quality: float | None = None,
    risk: float | None = None,
    seed: int = 0,
    judge: str = "tfidf",
) -> FittedCascade:
    """Fit to one goal: a budget, a quality to be reached at the least cost, or a risk.

    Args:
        table: Graded answers with their costs.
        drafts: The answers, or how many of their samples agree.
        experts: Whom a cascade may ask. For a risk exactly two, in their order.
        budget_usd: Mean dollars per request to spend.
        quality: Mean score to reach.
        risk: Of all requests, the share that may be kept by the first expert and wrong.
        seed: Source of all randomness.
        judge: The encoder through which answers are judged.

    Raises:
        ComparisonError: Not exactly one goal, too few queries, neither answers nor samples, or no
            cascade reaches the goal.
        TableError: The budget is below what the cheapest expert costs.
    """
    if sum(goal is not None for goal in (budget_usd, quality, risk)) != 1:
        raise ComparisonError("say one of a budget, a quality and a risk to fit to")
    if risk is not None and len(experts) != 2:
        raise ComparisonError(
            f"a risk is fitted for two experts in their order, got {len(experts)}"
        )
    rng = np.random.default_rng(seed)
    graded = judged(table, drafts, experts, rng, judge)
    known = graded.table
    logged = LoggedDrafts(known.experts, graded.signal_NA, known.score_NA, known.cost_usd_NA)
    if risk is not None:
        chain = _of_risk(logged, experts, risk)
    else:
        goal = Goal(
            np.inf if budget_usd is None else budget_usd, 1.0 if quality is None else quality
        )
        chain = select(logged, known.groups, goal, rng)
        _check_reached(chain, logged, quality)
    return FittedCascade(chain, graded.scorer, logged, graded.by)


@dataclass(frozen=True, slots=True, eq=False)
class JudgedAnswers:
    """Graded answers, each with how right it looks.

    Attributes:
        table: Queries that all experts answered at a known cost.
        drafts: What was answered there.
        signal_NA: How right each answer looks, to a fit that had not seen it.
        scorer: What judges answers; None where their samples' agreement does.
    """

    table: OutcomeTable
    drafts: DraftTable
    signal_NA: Floats
    scorer: CrossFittedScorer | None

    @property
    def by(self) -> str:
        """What a configuration calls the signal."""
        return "scorer" if self.scorer else "agreement"


def judged(
    table: OutcomeTable,
    drafts: DraftTable,
    experts: Sequence[str],
    rng: np.random.Generator,
    judge: str = "tfidf",
) -> JudgedAnswers:
    """Have the answers of some experts judged, by their texts or by how many samples agree.

    Raises:
        ComparisonError: Too few queries, or neither answers nor samples.
    """
    known, told = complete(table, drafts, experts)
    if len(known) < _FEWEST:
        raise ComparisonError(
            f"{len(known)} queries were answered by all of {', '.join(experts)} at a known cost; "
            f"{_FEWEST} are needed"
        )
    if told.has_answers:
        return JudgedAnswers(known, told, *judged_answers(known, told, rng, judge))
    if not np.isnan(told.agreement_NA).any():
        return JudgedAnswers(known, told, judged_samples(told), None)
    raise ComparisonError(
        "the file holds neither the experts' answers (column 'response') nor how many of their "
        "samples agree (column 'agreement'), so nothing tells a good draft from a bad one"
    )


def _of_risk(logged: LoggedDrafts, experts: Sequence[str], risk: float) -> Chain:
    first = logged.experts.index(experts[0])
    threshold = DeferralThreshold.of_risk(
        logged.signal_NA[:, first], 1 - logged.score_NA[:, first], risk
    )
    chain = Chain(tuple(experts), (threshold,), np.nan, np.nan)
    score_N, cost_N = chain.replay(logged)
    return Chain(chain.experts, (threshold,), float(score_N.mean()), float(cost_N.mean()))


def _check_reached(chain: Chain, logged: LoggedDrafts, quality: float | None) -> None:
    """A quality that is missed by more than chance is refused."""
    deviation = float(chain.replay(logged)[0].std()) / np.sqrt(len(logged))
    if quality is not None and chain.quality < quality - 2 * deviation:
        raise ComparisonError(
            f"no cascade reaches a quality of {quality}; the best reaches {chain.quality:.3f}"
        )
