"""Conformal escalation: the cheap expert where its answer is wrong at most so often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from routers.errors import TableError
from routers.fitting.practice import Practice
from routers.policies.greedy import good_enough, on_the_best, utilities
from routers.records import Candidates, Floats, Preference

FEWEST_OF_A_KIND = 200
"""A kind of query with fewer known outcomes shares the threshold of all."""
_NEVER = 2.0


@dataclass(frozen=True, slots=True)
class ConformalPolicy:
    """The cheap expert where its expected quality reaches a threshold, else the best of the others.

    `fit` chooses the lowest threshold θ with (n · R(θ) + 1) / (n + 1) <= `wrong`, where R(θ) is the
    mean over n queries of 1[expected >= θ] · (1 - score). If the traffic is like those queries,
    then of all requests at most `wrong` are kept by the cheap expert *and* answered wrong, however
    bad the estimates are: bad ones only escalate more. It says nothing of those that are escalated.
    The queries were estimated by fits of parts of the training rows; where the router's own
    estimates are spread unlike theirs, as a ridge regression's on a thousand rows are, more may be
    wrong than allowed. With the default router and with `knn`, it holds on real outcomes.

    A query's kind is who would answer it instead. Each kind with at least 200 outcomes that needs a
    higher threshold has its own, so the promise holds for each of them too (Mondrian).

    Unfitted, everything is escalated.

    Source: Angelopoulos, Bates, Fisch, Lei & Schuster, "Conformal Risk Control", 2022; kinds: Vovk,
    "Conditional validity of inductive conformal predictors", 2012.

    Attributes:
        wrong: α, in (0, 1).
        cheap: Id of the cheap expert; "" for the cheapest on the queries of the fit.
        threshold: θ of kinds with few outcomes; None before it is fitted.
        thresholds: θ of each other kind.
    """

    name = "conformal"

    wrong: float = 0.1
    cheap: str = ""
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.wrong < 1:
            raise ValueError(f"wrong must be in (0, 1), got {self.wrong!r}")

    @property
    def is_fitted(self) -> bool:
        return self.threshold is not None

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        utility_A = utilities(candidates, preference)
        if self.cheap not in candidates.experts:
            return on_the_best(utility_A, candidates, preference), utility_A
        cheap = candidates.experts.index(self.cheap)
        other_A = _best_other(utility_A, candidates, preference, cheap)
        kind = candidates.experts[int(other_A.argmax())]
        kept = self.threshold is not None and bool(
            # Which kind a query is differs from fit to fit, so a kind may only be stricter: the
            # promise for all traffic then never rests on it.
            candidates.quality_A[cheap] >= max(self.threshold, self.thresholds.get(kind, 0.0))
        )
        if not kept or not good_enough(candidates, preference)[cheap]:
            return other_A, utility_A
        probabilities_A = np.zeros(len(utility_A))
        probabilities_A[cheap] = 1.0
        return probabilities_A, utility_A

    def fit(self, practice: Practice, preference: Preference) -> Self:
        cheapest = int(practice.spend.mean(axis=0).argmin())
        cheap = practice.column(self.cheap) if self.cheap else cheapest
        seen_N = ~np.isnan(practice.score_NA[:, cheap])
        if not seen_N.any():
            raise TableError(f"no outcome of {practice.experts[cheap]!r} is known")
        kinds = np.array(
            [
                int(_best_other(utilities(query, preference), query, preference, cheap).argmax())
                for query in practice.queries
            ]
        )[seen_N]
        expected_N = practice.quality[seen_N, cheap]
        wrong_N = 1 - practice.score_NA[seen_N, cheap]
        weight_N = 1 / practice.propensity_NA[seen_N, cheap]
        thresholds = {
            practice.experts[kind]: lowest_threshold(
                expected_N[kinds == kind],
                wrong_N[kinds == kind],
                self.wrong,
                weight_N[kinds == kind],
            )
            for kind in np.unique(kinds).tolist()
            if (kinds == kind).sum() >= FEWEST_OF_A_KIND
        }
        return replace(
            self,
            cheap=practice.experts[cheap],
            threshold=lowest_threshold(expected_N, wrong_N, self.wrong, weight_N),
            thresholds=thresholds,
        )


def lowest_threshold(
    expected_N: Floats, loss_N: Floats, alpha: float, weight_N: Floats | None = None
) -> float:
    """The smallest θ among `expected_N` that is known to lose no more than `alpha` on average.

    (Σ w · 1[expected >= θ] · loss + w_max) / (Σ w + w_max) <= α, which with equal weights is
    (n · R(θ) + 1) / (n + 1) <= α. Above 1, so that nothing reaches it, where no θ is low enough.

    Args:
        expected_N: What queries are accepted by, in [0, 1], length N.
        loss_N: What accepting each loses, in [0, 1].
        alpha: The mean loss that is allowed.
        weight_N: 1 / P(this outcome was observed); None where all were.
    """
    weight_N = np.ones(len(loss_N)) if weight_N is None else weight_N
    order_N = np.argsort(-expected_N, kind="stable")
    place_N = expected_N[order_N]
    lost_N = np.cumsum((weight_N * loss_N)[order_N])
    heaviest = weight_N.max(initial=1.0)
    allowed = alpha * (weight_N.sum() + heaviest) - heaviest
    # Equal ones are accepted together, so only the last of them can be the end.
    last_N = np.append(place_N[1:] != place_N[:-1], True)[: len(place_N)]
    # Rounding must not refuse what is allowed exactly.
    fine_N = last_N & (lost_N <= allowed + 1e-9)
    return float(place_N[fine_N].min()) if fine_N.any() else _NEVER


def _best_other(
    utility_A: Floats, candidates: Candidates, preference: Preference, cheap: int
) -> Floats:
    """All probability on the best expert but the cheap one; on that where there is no other."""
    without_A = utility_A.copy()
    without_A[cheap] = -np.inf
    others_A = good_enough(candidates, preference)
    others_A[cheap] = False
    if not others_A.any():
        # Nobody else is good enough: whoever is best of the others, or the cheap one if alone.
        preference = Preference()
    return on_the_best(without_A, candidates, preference)
