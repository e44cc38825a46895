"""Which setting of a router to run: its cost weight, chosen on the training side alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.baselines import single
from eval.curves import relative
from eval.differences import Compared, compared, is_logged, joined
from eval.replay import Traffic, candidates_per_query, cards_of, choices, measure
from eval.splits import split_groups
from experts.cards import Prices
from routers.errors import TableError
from routers.fit import fit_router
from routers.records import Estimates, OutcomeTable, Preference
from routers.router import Router

GIVE_UP: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05)
"""How much quality one may be ready to give up for a lower cost; a setting is chosen for each."""

WORTH = 0.1
"""Quality that saving the whole cost is worth, where a balance must be struck: ten points."""

_SPARE_STDERRS = 1.0
_LARGE = 3000
_HELD_OUT = 1500
_FOLDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One router over a range of cost weights.

    Attributes:
        cost_weights: Length K.
        traffic: What each led to, length K.
        estimates: What the router expected, columns as the table's.
    """

    cost_weights: tuple[float, ...]
    traffic: tuple[Traffic, ...]
    estimates: Estimates


@dataclass(frozen=True, slots=True)
class Setting:
    """A point of a sweep, and what it promised where it was chosen.

    Attributes:
        given_up: Quality that may be lost against the best single expert, in [0, 1]; None for the
            setting to run, which loses none and strikes the best balance.
        index: Which cost weight.
        quality_gain: Quality over the best single expert's there; NaN when it could not be tried.
        cost_save: Share of the best single expert's cost saved there; NaN unknown.
        safe: Whether no more than that was lost there, with one standard error to spare.
    """

    given_up: float | None
    index: int
    quality_gain: float
    cost_save: float
    safe: bool

    @property
    def balance(self) -> float:
        """Quality gained plus what the saving is worth; -1 when it could not be tried."""
        if np.isnan(self.quality_gain):
            return -1.0
        return self.quality_gain + WORTH * float(np.nan_to_num(self.cost_save))


def sweep(
    router: Router,
    table: OutcomeTable,
    prices: Mapping[str, Prices | None],
    cost_weights: Sequence[float],
) -> Sweep:
    """Replay a router on a table, once per cost weight, through its own policy."""
    estimates = router.estimate(table.prompts)
    queries = candidates_per_query(router, table.prompts, estimates, cards_of(prices))
    traffic = [
        measure(table, choices(router.policy, queries, Preference(cost_weight=weight)))
        for weight in cost_weights
    ]
    return Sweep(tuple(cost_weights), tuple(traffic), estimates)


def choose_settings(
    estimator: str,
    train: OutcomeTable,
    prices: Mapping[str, Prices | None],
    cost_weights: Sequence[float],
    best: int,
    seed: int,
) -> tuple[Setting, ...]:
    """The setting to run, then the cheapest for each loss of quality in `GIVE_UP`.

    The router is fitted to one part of the training side and tried on the other, three times over
    or, on large tables, once. A setting counts when it loses no more than allowed against the best
    single expert, with one standard error to spare; when none does, the one of the highest quality
    is taken. The one to run is, of those that lose nothing, the one of the best `balance`.

    Args:
        estimator: What the router is made of.
        train: The training side.
        prices: What the policy reckons with.
        cost_weights: The settings to try.
        best: Column of the best single expert.
        seed: Source of all randomness.
    """
    losses = (None, *GIVE_UP) if len(cost_weights) > 1 else (None,)
    quality: list[list[Compared]] = [[] for _ in cost_weights]
    cost: list[list[Compared]] = [[] for _ in cost_weights]
    logged = is_logged(train)
    for fit_rows, valid_rows in _folds(train, seed):
        valid = train.take(valid_rows)
        try:
            router = fit_router("validation", estimator, train.take(fit_rows), seed=seed)
        except TableError:
            unknown = float("nan")
            return tuple(Setting(loss, 0, unknown, unknown, safe=False) for loss in losses)
        alone = measure(valid, single(valid, best))
        for index, traffic in enumerate(sweep(router, valid, prices, cost_weights).traffic):
            quality[index].append(compared(traffic, alone, "quality", logged=logged))
            cost[index].append(compared(traffic, alone, "cost", logged=logged))
    found = _Tried([joined(parts) for parts in quality], [joined(parts) for parts in cost])
    return tuple(found.setting(given_up) for given_up in losses)


class _Tried:
    def __init__(self, quality: Sequence[Compared], cost: Sequence[Compared]) -> None:
        self.gain_K = np.array([each.difference for each in quality])
        self.stderr_K = np.array([each.stderr for each in quality])
        self.save_K = np.array([relative(-each.difference, each.means[1]) for each in cost])

    def setting(self, given_up: float | None) -> Setting:
        safe_K = self.gain_K >= _SPARE_STDERRS * self.stderr_K - (given_up or 0.0)
        save_K = np.nan_to_num(self.save_K)
        if safe_K.any():
            wanted_K = self.gain_K + WORTH * save_K if given_up is None else save_K
        else:
            wanted_K = self.gain_K
        among_K = np.where(safe_K | ~safe_K.any(), np.nan_to_num(wanted_K, nan=-np.inf), -np.inf)
        index = int(np.lexsort((-save_K, -among_K))[0])
        gain, save = float(self.gain_K[index]), float(self.save_K[index])
        return Setting(given_up, index, gain, save, bool(safe_K[index]))


def _folds(
    train: OutcomeTable, seed: int
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    if len(train) >= _LARGE:
        return [split_groups(train.groups, _HELD_OUT / len(train), seed)]
    names, group_N = np.unique(np.array(train.groups, dtype=object), return_inverse=True)
    fold_N = (np.random.default_rng(seed).permutation(len(names)) % _FOLDS)[group_N]
    sides = [(np.flatnonzero(fold_N != f), np.flatnonzero(fold_N == f)) for f in range(_FOLDS)]
    return [(fit, valid) for fit, valid in sides if len(fit) and len(valid)]
