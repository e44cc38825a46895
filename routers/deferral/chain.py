"""FrugalGPT: which experts to ask in which order, and from which score on an answer is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from routers.deferral.threshold import DeferralThreshold
from routers.errors import TableError
from routers.records import Floats

_GRID = 40


@dataclass(frozen=True, slots=True, eq=False)
class LoggedDrafts:
    """Drafts of A experts on N requests, all of them known.

    Attributes:
        experts: Ids, length A.
        signal_NA: How sure one may be of each draft, in [0, 1]; by a fit that had not seen it.
        score_NA: Scores in [0, 1].
        cost_usd_NA: Dollars, samples and checks included.
    """

    experts: tuple[str, ...]
    signal_NA: Floats
    score_NA: Floats
    cost_usd_NA: Floats

    def __post_init__(self) -> None:
        if np.isnan(self.score_NA + self.cost_usd_NA + self.signal_NA).any():
            raise TableError(
                "a chain is searched on requests where every expert's score, cost and signal is "
                "known; leave the others out"
            )

    def __len__(self) -> int:
        return len(self.score_NA)

    def take(self, rows: npt.NDArray[np.intp]) -> LoggedDrafts:
        """The same of some requests."""
        parts = (self.signal_NA, self.score_NA, self.cost_usd_NA)
        return LoggedDrafts(self.experts, *(values_NA[rows] for values_NA in parts))


@dataclass(frozen=True, slots=True)
class Chain:
    """Experts asked in turn until a draft passes its threshold; the last one's is always kept.

    Attributes:
        experts: Ids, length D >= 1.
        thresholds: One for each but the last.
        quality: Mean score where it was chosen.
        cost_usd: Mean dollars there.
    """

    experts: tuple[str, ...]
    thresholds: tuple[DeferralThreshold, ...]
    quality: float
    cost_usd: float

    def replay(self, logged: LoggedDrafts) -> tuple[Floats, Floats]:
        """Expected score and dollars of each request, over the draws at ties, shape (N,) each."""
        columns = [logged.experts.index(expert) for expert in self.experts]
        reached_N = np.ones(len(logged.score_NA))
        score_N, cost_N = np.zeros(len(reached_N)), np.zeros(len(reached_N))
        for place, column in enumerate(columns):
            passed_N = np.zeros(len(reached_N))
            if place < len(self.thresholds):
                passed_N = self.thresholds[place].deferred(logged.signal_NA[:, column])
            score_N += reached_N * (1 - passed_N) * logged.score_NA[:, column]
            cost_N += reached_N * logged.cost_usd_NA[:, column]
            reached_N = reached_N * passed_N
        return score_N, cost_N


def search(logged: LoggedDrafts, *, depth: int = 3, grid: int = _GRID) -> list[Chain]:
    """The chains that no other beats in both cost and quality, cheapest first.

    Every set of up to `depth` experts is tried in the order of their mean costs. The thresholds of
    all stages but the last to choose run over `grid` quantiles of the signal, and that of the last
    over all of its values, which takes the place of the paper's Nelder–Mead.

    Args:
        logged: What is known.
        depth: Most experts in a chain, >= 1.
        grid: How many quantiles.

    Source: Chen, Zaharia & Zou, "FrugalGPT", 2023. Its published code selects on the rows that its
    scorer learned from; `LoggedDrafts` asks for signals of unseen rows.
    """
    found: list[Chain] = []
    for experts in expert_sets(logged, depth):
        found = undominated([*found, *chains_of(logged, experts, grid=grid)])
    return found


def expert_sets(logged: LoggedDrafts, depth: int) -> list[tuple[str, ...]]:
    """Every set of up to `depth` experts, smaller ones first, each in the order of mean costs."""
    order = np.argsort(logged.cost_usd_NA.mean(axis=0), kind="stable").tolist()
    names = [logged.experts[column] for column in order]
    lengths = range(1, min(depth, len(names)) + 1)
    return [experts for length in lengths for experts in combinations(names, length)]


def chains_of(logged: LoggedDrafts, experts: Sequence[str], *, grid: int = _GRID) -> list[Chain]:
    """The chains of exactly these experts in this order that none of them beats, see `search`."""
    columns = tuple(logged.experts.index(expert) for expert in experts)
    return undominated(list(_of_columns(logged, columns, grid)))


def undominated(chains: Sequence[Chain]) -> list[Chain]:
    """Those that none other is at least as good as at no higher cost, cheapest first."""
    kept: list[Chain] = []
    for chain in sorted(chains, key=lambda each: (each.cost_usd, -each.quality)):
        if not kept or chain.quality > kept[-1].quality:
            kept.append(chain)
    return kept


def as_good_as(chains: Sequence[Chain], quality: float) -> Chain | None:
    """The cheapest chain of at least that quality where it was chosen; None without any."""
    able = [chain for chain in chains if chain.quality >= quality - 1e-12]
    return min(able, key=lambda each: each.cost_usd) if able else None


def _of_columns(logged: LoggedDrafts, columns: tuple[int, ...], grid: int) -> Iterator[Chain]:
    """Chains of these experts in this order that are undominated among each other."""
    experts = tuple(logged.experts[column] for column in columns)
    for given, reached_N, score, cost in _prefixes(logged, columns[:-2], grid):
        base = float(reached_N @ logged.cost_usd_NA[:, columns[-2 if len(columns) > 1 else -1]])
        if len(columns) == 1:
            total = float(logged.score_NA[:, columns[0]].mean())
            yield Chain(experts, (), total, (cost + base) / len(reached_N))
            continue
        yield from _last_two(logged, columns, experts, given, reached_N, score, cost + base)


def _prefixes(
    logged: LoggedDrafts, columns: tuple[int, ...], grid: int
) -> Iterator[tuple[tuple[DeferralThreshold, ...], Floats, float, float]]:
    """Thresholds of the first stages: who is passed on, and what was scored and spent so far."""
    everyone_N = np.ones(len(logged.score_NA))
    if not columns:
        yield (), everyone_N, 0.0, 0.0
        return
    column = columns[-1]
    signal_N = logged.signal_NA[:, column]
    levels = np.unique(np.quantile(signal_N, np.linspace(0, 1, grid + 1), method="lower"))
    for given, reached_N, score, cost in _prefixes(logged, columns[:-1], grid):
        spent = cost + float(reached_N @ logged.cost_usd_NA[:, column])
        for level in levels:
            threshold = DeferralThreshold(float(level), 1.0)
            passed_N = reached_N * threshold.deferred(signal_N)
            kept = float((reached_N - passed_N) @ logged.score_NA[:, column])
            yield (*given, threshold), passed_N, score + kept, spent


def _last_two(
    logged: LoggedDrafts,
    columns: tuple[int, ...],
    experts: tuple[str, ...],
    given: tuple[DeferralThreshold, ...],
    reached_N: Floats,
    score: float,
    cost: float,
) -> Iterator[Chain]:
    """Every threshold between the last two experts, in one pass over the sorted signal."""
    first, last = columns[-2:]
    rows = np.flatnonzero(reached_N)
    rows = rows[np.argsort(logged.signal_NA[rows, first], kind="stable")]
    signal_R = logged.signal_NA[rows, first]
    if not len(rows):
        return
    gain_R = np.cumsum(logged.score_NA[rows, last] - logged.score_NA[rows, first])
    more_R = np.cumsum(logged.cost_usd_NA[rows, last])
    ends = np.flatnonzero(np.append(signal_R[1:] != signal_R[:-1], True))
    kept = score + float(logged.score_NA[rows, first].sum())
    total = len(reached_N)
    quality_E, cost_E = (kept + gain_R[ends]) / total, (cost + more_R[ends]) / total
    best = -np.inf
    for place in np.lexsort((-quality_E, cost_E)):
        if quality_E[place] > best:
            best = quality_E[place]
            threshold = DeferralThreshold(float(signal_R[ends[place]]), 1.0)
            yield Chain(experts, (*given, threshold), float(quality_E[place]), float(cost_E[place]))
