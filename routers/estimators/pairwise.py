"""Quality from who beats whom on similar queries: Bradley-Terry ratings, weighted by likeness."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from scipy.special import expit

from routers.errors import TableError
from routers.estimators.effort import EffortModel
from routers.estimators.observed import Observed, observed
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State, Vectors
from routers.storage.states import fitted, join_states, part_state

_BLOCK = 256
_STEPS = 50
_CLOSE = 1e-9
_TINY = np.finfo(np.float64).tiny


class PairwiseEstimator:
    r"""Bradley-Terry ratings near the request, turned into qualities.

    .. math:: P(a \succ b) = \sigma(R_a - R_b), \quad
        R(x) = R + \frac{n}{n + s} H^{-1} \sum_i \frac{N k_i(x)}{\sum_j k_j(x)} g_i, \quad
        k_i = 10^{\beta z_i \cdot z / \max_j z_j \cdot z}

    Every query that two experts or more were scored on is a match of each pair; equal scores are
    half a win for both. R are the ratings over all queries. To rate anew near each request, as the
    paper does, costs a fit per decision; here R(x) is one Newton step from R, made of each
    query's gradient g at R and the Hessian H of all queries, and drawn back towards R by n, the
    effective number of queries that it rests on. The quality of an expert is u + v · (its mean
    probability to beat another), with u and v such that the mean scores of the table are met.
    Ratings say who is better, not how hard a request is.

    Args:
        sharpness: β; the paper's weights have 1, which far queries drown.
        shrinkage: s > 0, how many queries the overall rating counts as.
        prior: Precision of the prior around 0 that keeps a rating finite, in matches, > 0.
        most_rows: Of a larger table a random sample is remembered, to keep decisions fast.

    Source: the similarity-weighted ranking of Ong et al., "RouteLLM: Learning to Route LLMs with
    Preference Data", 2024.
    """

    name = "pairwise"

    def __init__(
        self,
        sharpness: float = 4.0,
        shrinkage: float = 20.0,
        prior: float = 1.0,
        most_rows: int = 20_000,
    ) -> None:
        self.sharpness = sharpness
        self.shrinkage = shrinkage
        self.prior = prior
        self.most_rows = most_rows
        self._ranking: _Ranking | None = None
        self._effort: EffortModel | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        several = np.flatnonzero((outcomes.weight_NA > 0).sum(axis=1) > 1)
        if not len(several):
            raise TableError(
                "no query was scored for two experts, so nobody can be compared; use another "
                "estimator or have some queries answered twice"
            )
        if len(several) > self.most_rows:
            several = np.sort(rng.choice(several, self.most_rows, replace=False))
        result = type(self)(self.sharpness, self.shrinkage, self.prior, self.most_rows)
        result._ranking = _Ranking.of(
            features.vectors_ND[several], outcomes.take(several), self.prior
        )
        result._effort = EffortModel().fit(features, table)
        return result

    @property
    def rating_A(self) -> Floats:  # noqa: N802 - carries its axis
        """Ratings over all queries in logits, mean 0, shape (A,); NaN for one never compared."""
        return fitted(self._ranking).rating_A

    def predict(self, features: FeatureBatch) -> Estimates:
        ranking = fitted(self._ranking)
        quality_NA = np.empty((len(features), len(ranking.rating_A)))
        stderr_NA = np.empty_like(quality_NA)
        for start in range(0, len(features), _BLOCK):
            block = slice(start, start + _BLOCK)
            near_BN = _likeness(features.vectors_ND[block], ranking.vectors_ND, self.sharpness)
            quality_NA[block], stderr_NA[block] = ranking.qualities(near_BN, self.shrinkage)
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def state(self) -> State:
        ranking = fitted(self._ranking)
        params = {
            "sharpness": self.sharpness,
            "shrinkage": self.shrinkage,
            "prior": self.prior,
            "most_rows": self.most_rows,
        }
        own = params, {name: getattr(ranking, name) for name in _FIELDS}
        return join_states(own, {"effort": fitted(self._effort).state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(params["sharpness"], params["shrinkage"], params["prior"], params["most_rows"])
        result._ranking = _Ranking(*(arrays[name] for name in _FIELDS))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """Ratings over all queries, and how each query would move them.

    Attributes:
        vectors_ND: One vector per query.
        pull_NA: H⁻¹ g of each query, float32: what a Newton step on N copies of it would move.
        rating_A: R; NaN for an expert that was never compared.
        spread_A: Variance of R around its mean, times N: that of a rating on one query.
        link_2: u and v.
    """

    vectors_ND: Vectors
    pull_NA: Vectors
    rating_A: Floats
    spread_A: Floats
    link_2: Floats

    @classmethod
    def of(cls, vectors_ND: Vectors, outcomes: Observed, prior: float) -> Self:
        wins_AA = sum(_wins(outcomes, row).sum(axis=0) for row in _blocks(len(vectors_ND)))
        rating_A, hessian_AA = _rate(np.asarray(wins_AA), prior)
        beats_AA = expit(rating_A[:, None] - rating_A)
        inverse_AA = np.linalg.inv(hessian_AA)
        pulls = []
        for rows in _blocks(len(vectors_ND)):
            wins_BAA = _wins(outcomes, rows)
            matches_BAA = wins_BAA + wins_BAA.transpose(0, 2, 1)
            pulls.append((wins_BAA - matches_BAA * beats_AA).sum(axis=2) @ inverse_AA)
        known_A = (wins_AA + np.transpose(wins_AA)).sum(axis=1) > 0
        pull_NA = np.concatenate(pulls).astype(np.float32) * len(vectors_ND)
        rating_A = np.where(known_A, rating_A, np.nan)
        link_2 = _link(outcomes.mean_A[known_A], _beats_others(rating_A[None])[0, known_A])
        # Where all ratings are together is nobody's advantage, and only the prior's to say.
        apart_AA = np.eye(len(known_A)) - known_A / max(int(known_A.sum()), 1)
        spread_A = np.diag(apart_AA @ inverse_AA @ apart_AA.T) * len(vectors_ND)
        return cls(vectors_ND, pull_NA, rating_A, spread_A, link_2)

    def qualities(self, near_BN: Vectors, shrinkage: float) -> tuple[Floats, Floats]:
        """Qualities and their standard errors where queries weigh `near_BN`, each (B, A)."""
        mass_B1 = near_BN.sum(axis=1, keepdims=True, dtype=np.float64)
        squared_B1 = np.einsum("bn,bn->b", near_BN, near_BN)[:, None]
        rows_B1 = mass_B1 * mass_B1 / np.maximum(squared_B1, _TINY)
        moved_BA = (near_BN @ self.pull_NA) / mass_B1 * (rows_B1 / (rows_B1 + shrinkage))
        rating_BA = self.rating_A + moved_BA
        base, slope = self.link_2
        beats_BA = _beats_others(rating_BA)
        steep_BA = slope * beats_BA * (1 - beats_BA)
        return base + slope * beats_BA, steep_BA * np.sqrt(self.spread_A / (rows_B1 + shrinkage))


_FIELDS = tuple(field.name for field in fields(_Ranking))


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]


def _wins(outcomes: Observed, rows: slice) -> Floats:
    """Wins of column a over column b in each row, ties as halves, weighted, shape (B, A, A)."""
    score_BA, weight_BA = outcomes.score_NA[rows], outcomes.weight_NA[rows]
    first_BA1, second_B1A = score_BA[:, :, None], score_BA[:, None, :]
    share_BAA = (first_BA1 > second_B1A) + 0.5 * (first_BA1 == second_B1A)
    wins_BAA: Floats = share_BAA * (weight_BA[:, :, None] * weight_BA[:, None, :])
    count = wins_BAA.shape[1]
    wins_BAA[:, np.arange(count), np.arange(count)] = 0.0
    return wins_BAA


def _rate(wins_AA: Floats, prior: float) -> tuple[Floats, Floats]:
    """Ratings in logits by Newton's method, and the Hessian there."""
    matches_AA = wins_AA + wins_AA.T
    rating_A = np.zeros(len(wins_AA))
    hessian_AA = np.eye(len(wins_AA))
    for _ in range(_STEPS):
        beats_AA = expit(rating_A[:, None] - rating_A)
        gradient_A = (wins_AA - matches_AA * beats_AA).sum(axis=1) - prior * rating_A
        ties_AA = matches_AA * beats_AA * (1 - beats_AA)
        hessian_AA = np.diag(ties_AA.sum(axis=1) + prior) - ties_AA
        step_A = np.linalg.solve(hessian_AA, gradient_A)
        # Far from the optimum the curve flattens, and a whole step would overshoot.
        rating_A = rating_A + step_A / max(1.0, float(np.abs(step_A).max()))
        if np.abs(step_A).max() < _CLOSE:
            break
    return rating_A, hessian_AA


def _beats_others(rating_BA: Floats) -> Floats:
    """Mean probability of each to beat another, shape (B, A); NaN for one without a rating."""
    beats_BAA = expit(rating_BA[:, :, None] - rating_BA[:, None, :])
    known_A = ~np.isnan(rating_BA[0])
    # An expert beats itself half the time, which is no match.
    total_BA = beats_BAA[:, :, known_A].sum(axis=2) - 0.5
    mean_BA: Floats = total_BA / max(int(known_A.sum()) - 1, 1)
    return mean_BA


def _link(mean_A: Floats, beats_A: Floats) -> Floats:
    """The line through mean scores over mean probabilities to beat another: u and v."""
    off_A = beats_A - beats_A.mean()
    squared = float(off_A @ off_A)
    slope = max(0.0, float(off_A @ mean_A) / squared) if squared > _CLOSE else 0.0
    return np.array([mean_A.mean() - slope * beats_A.mean(), slope])


def _likeness(queries_BD: Vectors, vectors_ND: Vectors, sharpness: float) -> Vectors:
    """Weight of each query for each request, at most 1, shape (B, N)."""
    alike_BN: Vectors = queries_BD @ vectors_ND.T
    nearest_B1 = np.maximum(alike_BN.max(axis=1, keepdims=True), np.float32(1e-6))
    alike_BN /= nearest_B1
    alike_BN -= 1.0
    np.maximum(alike_BN, -2.0, out=alike_BN)
    alike_BN *= np.float32(sharpness * np.log(10.0))
    np.exp(alike_BN, out=alike_BN)
    return alike_BN
