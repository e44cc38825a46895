"""Whom to admit to a new task, going by a few graded answers of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routers.errors import TableError
from routers.records import Floats

_FEWEST = 2
_LEAST_STRENGTH, _MOST_STRENGTH = 1.0, 1000.0
_NO_GAIN = 1e-12


@dataclass(frozen=True, slots=True)
class AuditionRules:
    """What counts in an audition.

    Attributes:
        most: Most experts that may be chosen, >= 1.
        doubt_weight: Quality points that a nat of an expert's mean doubt costs it; >= 0.
        standing_weight: How many covered queries a quality of 1 is worth; >= 0.
    """

    most: int = 3
    doubt_weight: float = 0.1
    standing_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"an audition must let at least one expert in, got {self.most!r}")
        for name in ("doubt_weight", "standing_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Audition:
    """How experts did, and who was chosen.

    Attributes:
        experts: Ids, length A; the columns.
        queries: How many graded queries there were.
        answers_A: How many answers of each were graded.
        accuracy_A: Mean score, drawn towards the pool's mean as far as it is uncertain, in [0, 1];
            as a row of a table of tasks it says what to expect of each on this one.
        doubt_A: Mean negative log-probability of its answers' tokens in nats, NaN unknown.
        standing_A: The accuracy less `doubt_weight` times the doubt.
        chosen: Columns in the order in which they were chosen.
        covered: Credit gained by each of `chosen` when it joined, of at most `queries`.
        stability_A: In what share of resamples of the queries each would be chosen.
    """

    experts: tuple[str, ...]
    queries: int
    answers_A: Floats
    accuracy_A: Floats
    doubt_A: Floats
    standing_A: Floats
    chosen: tuple[int, ...]
    covered: tuple[float, ...]
    stability_A: Floats


def audition(
    experts: Sequence[str],
    score_NA: Floats,
    doubt_NA: Floats | None = None,
    *,
    rules: AuditionRules = AuditionRules(),
    rng: np.random.Generator,
    resamples: int = 200,
) -> Audition:
    r"""Choose the experts that together answer most, each as far as it did not guess.

    .. math:: \max_{|S| \le k} \sum_i \max_{m \in S} y_{im} e^{-\ell_{im}}
        + \eta \sum_{m \in S} \max(0, \hat a_m - \rho \bar\ell_m)

    where ell is the mean negative log-probability of an answer's tokens and â the accuracy after
    shrinkage (`shrunk`). The first sum rewards experts that are right where others are not; an
    answer that its expert itself held for improbable counts as little as that, so a lucky guesser
    of four choices earns a quarter. The sum is monotone and submodular: greedy reaches at least
    1 − 1/e of the best. Nobody joins who adds nothing.

    Args:
        experts: Ids, length A.
        score_NA: Scores in [0, 1], NaN not graded; covers nothing.
        doubt_NA: Its ell, >= 0, same shape, NaN unknown: then the mean of the query's known ones,
            else of all, so that who gives no log-probabilities has neither advantage nor harm.
        rules: What counts.
        rng: Draws the resamples.
        resamples: How many.

    Raises:
        TableError: Fewer than two graded queries, or a score or doubt out of its range.

    Source: Xu et al., "Leveraging Open Knowledge for Advancing Task Expertise in Large Language
    Models", 2024, for choosing by a few shots without blind guessers; credit and greedy are ours.
    """
    _check(score_NA, doubt_NA)
    graded_N = ~np.isnan(score_NA).all(axis=1)
    score_NA = score_NA[graded_N]
    if len(score_NA) < _FEWEST:
        raise TableError(
            f"an audition needs at least {_FEWEST} graded queries, got {len(score_NA)}"
        )
    unknown_NA = np.full(score_NA.shape, np.nan)
    known_NA = unknown_NA if doubt_NA is None else doubt_NA[graded_N]
    doubt_NA = np.where(np.isnan(score_NA), np.nan, known_NA)
    credit_NA = np.where(np.isnan(score_NA), 0.0, score_NA) * np.exp(-_filled(doubt_NA))
    standing_A = _standing(score_NA, doubt_NA, rules)
    chosen, covered = _greedy(credit_NA, standing_A, rules)
    return Audition(
        experts=tuple(experts),
        queries=len(score_NA),
        answers_A=(~np.isnan(score_NA)).sum(axis=0).astype(np.float64),
        accuracy_A=shrunk(score_NA),
        doubt_A=_mean(doubt_NA),
        standing_A=standing_A,
        chosen=chosen,
        covered=covered,
        stability_A=_stability(score_NA, doubt_NA, credit_NA, rules, rng, resamples),
    )


def shrunk(score_NA: Floats) -> Floats:
    r"""Mean score of each expert, drawn towards the pool's by what chance alone would spread them.

    .. math:: \hat a_m = \frac{\sum_i y_{im} + s \mu}{n_m + s}, \quad
        s = \frac{\mu (1 - \mu)}{\hat\tau^2} - 1

    with τ² the variance of the means beyond that of chance (moments of a beta-binomial), s within
    [1, 1000].

    Args:
        score_NA: Scores in [0, 1], NaN unobserved; a column may be all NaN and then gets μ.

    Source: Morris, "Parametric Empirical Bayes Inference", JASA 1983.
    """
    seen_A = (~np.isnan(score_NA)).sum(axis=0).astype(np.float64)
    sum_A = np.nansum(score_NA, axis=0)
    mu = float(sum_A.sum() / max(seen_A.sum(), 1.0))
    asked_A = seen_A > 0
    mean_A = sum_A[asked_A] / seen_A[asked_A]
    chance = float(np.mean(mu * (1 - mu) / seen_A[asked_A])) if asked_A.any() else 0.0
    beyond = float(np.mean((mean_A - mu) ** 2)) - chance if asked_A.any() else 0.0
    strength = mu * (1 - mu) / beyond - 1 if beyond > 0 else _MOST_STRENGTH
    strength = float(np.clip(strength, _LEAST_STRENGTH, _MOST_STRENGTH))
    accuracy_A: Floats = (sum_A + strength * mu) / (seen_A + strength)
    return accuracy_A


def _standing(score_NA: Floats, doubt_NA: Floats, rules: AuditionRules) -> Floats:
    doubt_A: Floats = _filled(doubt_NA).mean(axis=0)
    return shrunk(score_NA) - rules.doubt_weight * doubt_A


def _greedy(
    credit_NA: Floats, standing_A: Floats, rules: AuditionRules
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    best_N = np.zeros(len(credit_NA))
    bonus_A = rules.standing_weight * np.maximum(standing_A, 0.0)
    chosen: list[int] = []
    covered: list[float] = []
    while len(chosen) < min(rules.most, len(standing_A)):
        more_A = np.maximum(credit_NA, best_N[:, None]).sum(axis=0) - best_N.sum()
        gain_A = more_A + bonus_A
        gain_A[chosen] = -np.inf
        # Ties go to the better standing, then to the first.
        best = int(np.lexsort((-standing_A, -gain_A))[0])
        if more_A[best] <= _NO_GAIN:
            break
        chosen.append(best)
        covered.append(float(more_A[best]))
        best_N = np.maximum(best_N, credit_NA[:, best])
    return tuple(chosen), tuple(covered)


def _stability(
    score_NA: Floats,
    doubt_NA: Floats,
    credit_NA: Floats,
    rules: AuditionRules,
    rng: np.random.Generator,
    resamples: int,
) -> Floats:
    times_A = np.zeros(score_NA.shape[1])
    for _ in range(resamples):
        rows = rng.integers(len(score_NA), size=len(score_NA))
        standing_A = _standing(score_NA[rows], doubt_NA[rows], rules)
        chosen, _ = _greedy(credit_NA[rows], standing_A, rules)
        times_A[list(chosen)] += 1
    return times_A / max(resamples, 1)


def _filled(doubt_NA: Floats) -> Floats:
    """The doubt of every cell: its own, else the mean of its row's, else of all, else 0."""
    known_NA = ~np.isnan(doubt_NA)
    overall = float(doubt_NA[known_NA].mean()) if known_NA.any() else 0.0
    counts_N1 = known_NA.sum(axis=1, keepdims=True)
    sums_N1 = np.where(known_NA, doubt_NA, 0.0).sum(axis=1, keepdims=True)
    row_N1 = np.where(counts_N1 > 0, sums_N1 / np.maximum(counts_N1, 1), overall)
    return np.where(known_NA, doubt_NA, row_N1)


def _mean(doubt_NA: Floats) -> Floats:
    known_A = (~np.isnan(doubt_NA)).sum(axis=0)
    means_A: Floats = np.nansum(doubt_NA, axis=0) / np.maximum(known_A, 1)
    return np.where(known_A > 0, means_A, np.nan)


def _check(score_NA: Floats, doubt_NA: Floats | None) -> None:
    if np.any((score_NA < 0) | (score_NA > 1)):
        raise TableError("scores of an audition must be in [0, 1]")
    if doubt_NA is None:
        return
    if doubt_NA.shape != score_NA.shape:
        raise TableError(
            f"doubts have shape {doubt_NA.shape}, the scores {score_NA.shape}; they must agree"
        )
    if np.any(doubt_NA < 0):
        raise TableError("the negative log-probability of an answer can't be below 0")
