"""Labels of whether an answer is as good as the reference's, or nearly so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.estimators.observed import Observed
from routers.records import Floats

KINDS = ("det", "prob", "trans")
_MARGINS = np.linspace(0.0, 0.95, 20)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    r"""P(score of an expert >= score of the reference − t), the targets of HybridLLM.

    `det` takes scores as they are and t = 0. `prob` takes a score for the share of an expert's
    samples that were right, drawn independently: one falls short only if it is wrong where the
    reference is right. `trans` is `det` with the t in [0, .95] at which labels differ most between
    queries, :math:`\arg\max_t \sum_{ij} |y_i(t) - y_j(t)|`, over all experts but the reference.

    With columns such as `model#bo3` for the best of three answers, these are the targets of
    BEST-Route's heads; one column for each model alone is HybridLLM.

    Attributes:
        reference: Column of the expert to match: the one with the best mean score.
        margin: t.
        label_NA: The targets, in [0, 1]; any number where unknown.
        weight_NA: What each weighs; 0 where the expert or the reference was not observed.

    Source: Ding et al., "Hybrid LLM: Cost-Efficient and Quality-Aware Query Routing", ICLR 2024;
    Ding et al., "BEST-Route: Adaptive LLM Routing with Test-Time Optimal Compute", 2025.
    """

    reference: int
    margin: float
    label_NA: Floats
    weight_NA: Floats

    @classmethod
    def of(cls, outcomes: Observed, kind: str) -> Self:
        """The labels of kind `kind`, one of `KINDS`.

        Raises:
            ValueError: There is no such kind.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of label {kind!r}; known are {', '.join(KINDS)}")
        score_NA = outcomes.score_NA
        reference = int(np.nanargmax(outcomes.mean_A))
        best_N1 = score_NA[:, [reference]]
        seen_NA = outcomes.weight_NA[:, [reference]] > 0
        weight_NA = np.where(seen_NA, outcomes.weight_NA, 0.0)
        if kind == "prob":
            label_NA = 1 - (1 - score_NA) * best_N1
            label_NA[:, reference] = 1.0
            return cls(reference, 0.0, label_NA, weight_NA)
        margins = _MARGINS if kind == "trans" else _MARGINS[:1]
        labels = [(score_NA >= best_N1 - margin).astype(np.float64) for margin in margins]
        others = np.arange(score_NA.shape[1]) != reference
        spreads = [_spread(label_NA[:, others], weight_NA[:, others]) for label_NA in labels]
        chosen = int(np.argmax(spreads))
        return cls(reference, float(margins[chosen]), labels[chosen], weight_NA)


def _spread(label_NA: Floats, weight_NA: Floats) -> float:
    """How far labels of 0 or 1 are apart, mean over pairs of queries, summed over experts."""
    mass_A = np.maximum(weight_NA.sum(axis=0), 1e-12)
    share_A = (weight_NA * label_NA).sum(axis=0) / mass_A
    return float((2 * share_A * (1 - share_A)).sum())
