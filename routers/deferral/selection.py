"""Which chain of experts to use, chosen by how chains fare on requests they were not fitted on.

`chain.search` finds what is best on the rows that it is given. Among hundreds of chains that are
nearly as good as each other, luck decides there, and the one it picks does worse on other rows,
often than one that would have been safe. Here every set of experts is fitted on some folds and
judged by the others, over several partitions; the set is chosen by that, and only then are its
thresholds fitted to all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from routers.deferral.chain import Chain, LoggedDrafts, as_good_as, chains_of, expert_sets
from routers.errors import TableError
from routers.estimators.folds import Rows, group_folds, others
from routers.records import Floats

_FOLDS = 4
_PARTITIONS = 4
_TRIED = 24
_GRID = 20
_OVER = 1.01
_DRAWS = 200
_CAUTION = (0.0, 0.01, 0.02, 0.03)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a chain is for: the most quality for a budget, or a quality for the least dollars.

    Attributes:
        budget_usd: Mean dollars per request to keep to.
        quality: Mean score to reach, in [0, 1]; without one, as much as there is.
    """

    budget_usd: float = np.inf
    quality: float = 1.0

    def pick(self, chains: Sequence[Chain], caution: float = 0.0) -> Chain | None:
        """The best for it where the chains were searched; None if all cost too much.

        Args:
            chains: Of which.
            caution: How much more quality to ask for than is needed.
        """
        able = [chain for chain in chains if chain.cost_usd <= self.budget_usd * (1 + 1e-9)]
        if not able:
            return None
        reached = as_good_as(able, self.quality + caution)
        return reached or max(able, key=lambda each: (each.quality, -each.cost_usd))

    def rank(self, quality: float, cost_usd: float) -> tuple[bool, bool, float, float]:
        """Higher is better: first the budget, then the quality, then what is left of either."""
        affordable = cost_usd <= self.budget_usd * _OVER
        good = quality >= self.quality - 1e-12
        if good or not affordable:
            return affordable, good, -cost_usd, quality
        return affordable, good, quality, -cost_usd


def select(
    logged: LoggedDrafts,
    groups: Sequence[str],
    goal: Goal,
    rng: np.random.Generator,
    *,
    sets: Sequence[tuple[str, ...]] | None = None,
    depth: int = 3,
) -> Chain:
    """The chain whose kind fared best on held-out folds, with thresholds fitted to all rows.

    Args:
        logged: What is known, with signals by fits that had not seen the rows.
        groups: Rows of one group are near-identical, and stay together.
        goal: What it is for.
        rng: Decides the folds.
        sets: Experts in their order, of which one is chosen; None: all of up to `depth`.
        depth: Most experts in a chain, >= 1.

    Returns:
        With the quality and the cost that are to be expected of it on other requests.

    Raises:
        TableError: Nothing keeps to the budget, or there are fewer than two groups.
    """
    promising = _promising(logged, sets or expert_sets(logged, depth), goal)
    if not promising:
        least = float(logged.cost_usd_NA.mean(axis=0).min())
        raise TableError(
            f"no chain costs ${goal.budget_usd:.6g} a request or less; the cheapest expert costs "
            f"${least:.6g}"
        )
    folds = [
        (others(held, len(logged)), held)
        for _ in range(_PARTITIONS)
        for held in group_folds(groups, _FOLDS, rng)
    ]
    if not folds:
        raise TableError("answers of fewer than two groups are known: none can be held out")
    ways = [way for experts in promising for way in _held_out(logged, experts, goal, folds)]
    if not ways:
        raise TableError(
            f"${goal.budget_usd:.6g} a request is too near to what the cheapest chain costs to be "
            f"kept on other requests; allow a little more"
        )
    best = _best(ways, goal)
    chain = goal.pick(chains_of(logged, best.experts, grid=_GRID), best.caution)
    if chain is None:
        raise RuntimeError("promising sets keep to the budget on all rows")
    quality, usd = _promised(ways, groups, goal, rng)
    return replace(chain, quality=quality, cost_usd=usd)


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """Experts and how cautiously they were fitted, with what came of it on held-out folds.

    Attributes:
        experts: In their order.
        caution: See `Goal.pick`.
        score_N: Mean score of each request, over the partitions.
        usd_N: Its dollars.
    """

    experts: tuple[str, ...]
    caution: float
    score_N: Floats
    usd_N: Floats


def _promising(
    logged: LoggedDrafts, sets: Sequence[tuple[str, ...]], goal: Goal
) -> list[tuple[str, ...]]:
    """Those that look best on the rows they are fitted to, which no other way of them can beat."""
    looks = []
    for experts in sets:
        chain = goal.pick(chains_of(logged, experts, grid=_GRID))
        if chain:
            looks.append((goal.rank(chain.quality, chain.cost_usd), experts))
    looks.sort(key=lambda each: each[0], reverse=True)
    return [experts for _, experts in looks[:_TRIED]]


def _held_out(
    logged: LoggedDrafts,
    experts: tuple[str, ...],
    goal: Goal,
    folds: Sequence[tuple[Rows, Rows]],
) -> list[_Way]:
    """One per degree of caution; none if some fold finds nothing within the budget."""
    cautions = _CAUTION if goal.quality < 1 else _CAUTION[:1]
    score_CN, usd_CN = np.zeros((2, len(cautions), len(logged)))
    for kept, held in folds:
        chains = chains_of(logged.take(kept), experts, grid=_GRID)
        for place, caution in enumerate(cautions):
            chain = goal.pick(chains, caution)
            if chain is None:
                return []
            score_N, usd_N = chain.replay(logged.take(held))
            score_CN[place, held] += score_N / _PARTITIONS
            usd_CN[place, held] += usd_N / _PARTITIONS
    return [
        _Way(experts, caution, score_N, usd_N)
        for caution, score_N, usd_N in zip(cautions, score_CN, usd_CN, strict=True)
    ]


def _best(ways: Sequence[_Way], goal: Goal) -> _Way:
    return max(ways, key=lambda way: goal.rank(float(way.score_N.mean()), float(way.usd_N.mean())))


def _promised(
    ways: Sequence[_Way], groups: Sequence[str], goal: Goal, rng: np.random.Generator
) -> tuple[float, float]:
    """What the best of many ways is worth where it was not the best by luck.

    Groups are drawn with replacement, the best way on those drawn is taken, and what it comes to
    on the others counts.

    Source: Tsamardinos, Greasidou & Borboudakis, "Bootstrapping the out-of-sample predictions for
    efficient and accurate cross-validation", 2018.
    """
    score_WN = np.stack([way.score_N for way in ways])
    usd_WN = np.stack([way.usd_N for way in ways])
    names, group_N = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    found = []
    for _ in range(_DRAWS):
        times_N = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[group_N]
        left_N = times_N == 0
        if left_N.any():
            drawn = score_WN @ times_N / times_N.sum(), usd_WN @ times_N / times_N.sum()
            best = max(range(len(ways)), key=lambda way: goal.rank(drawn[0][way], drawn[1][way]))
            found.append((score_WN[best, left_N].mean(), usd_WN[best, left_N].mean()))
    quality, usd = np.mean(found, axis=0).tolist()
    return quality, usd
