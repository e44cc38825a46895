"""From recorded answers to what is done with a draft of each score: AutoMix's meta-verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.compositions.drafts import DraftTable
from eval.compositions.fitting import judged
from eval.errors import ComparisonError
from routers.deferral.chain import LoggedDrafts
from routers.deferral.cross_fitted import CrossFittedScorer
from routers.deferral.verification import CheckedDrafts, MetaVerifier, fit_meta_verifier
from routers.records import OutcomeTable


@dataclass(frozen=True, slots=True, eq=False)
class FittedActions:
    """What is done with the first expert's drafts, by equal parts of the score that judges them.

    Attributes:
        experts: Who drafts, and who is asked when the draft is passed on.
        rule: What is done.
        quality: Mean score on the requests that it was fitted on.
        cost_usd: Mean dollars there.
        scorer: What judges drafts; None where their samples' agreement does.
        logged: What it was fitted on.
        by: `scorer` or `agreement`.
    """

    experts: tuple[str, str]
    rule: MetaVerifier
    quality: float
    cost_usd: float
    scorer: CrossFittedScorer | None
    logged: LoggedDrafts
    by: str


def fit_actions(
    table: OutcomeTable,
    drafts: DraftTable,
    experts: Sequence[str],
    *,
    worth_usd: float,
    seed: int = 0,
    judge: str = "tfidf",
) -> FittedActions:
    """Accept drafts, pass them on, or give them up as hopeless, by what a right answer is worth.

    Args:
        table: Graded answers with their costs.
        drafts: The answers, or how many of their samples agree.
        experts: Exactly two, in their order.
        worth_usd: Dollars that a right answer is worth.
        seed: Source of all randomness.
        judge: The encoder through which answers are judged.

    Raises:
        ComparisonError: Not two experts, too few queries, or neither answers nor samples.
        TableError: The second expert is no better than the first, or no dearer.
    """
    if len(experts) != 2:
        raise ComparisonError(
            f"a worth is fitted for two experts in their order, got {len(experts)}"
        )
    graded = judged(table, drafts, experts, np.random.default_rng(seed), judge)
    known = graded.table
    logged = LoggedDrafts(known.experts, graded.signal_NA, known.score_NA, known.cost_usd_NA)
    columns = [logged.experts.index(expert) for expert in experts]
    signal_N = logged.signal_NA[:, columns[0]]
    small_N, large_N = logged.score_NA[:, columns].T
    small_usd_N, large_usd_N = logged.cost_usd_NA[:, columns].T
    # What checks cost is in the price of a draft if they are samples of it, and else nothing.
    usd = float(small_usd_N.mean()), 0.0, float(large_usd_N.mean())
    rule = fit_meta_verifier(CheckedDrafts(signal_N, small_N, large_N, *usd), worth_usd=worth_usd)
    passed_N = rule.defers(signal_N)
    return FittedActions(
        experts=(experts[0], experts[1]),
        rule=rule,
        quality=float(np.where(passed_N, large_N, small_N).mean()),
        cost_usd=float((small_usd_N + passed_N * large_usd_N).mean()),
        scorer=graded.scorer,
        logged=logged,
        by=graded.by,
    )
