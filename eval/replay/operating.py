"""Which setting of a router to run: its cost weight, chosen on the training side alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.metrics.curves import relative
from eval.metrics.differences import Compared, compared, is_logged
from eval.replay.batches import replayed
from eval.replay.replay import ReplayedTraffic, measure_columns
from eval.tables.splits import split_groups
from experts.cards import Prices
from routers.errors import TableError
from routers.estimators.calibrated import CalibratedEstimator
from routers.fitting.fit import Encoded, fit_router
from routers.records import Estimates, OutcomeTable
from routers.router import Router

GIVE_UP: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05)
"""How much quality one may be ready to give up for a lower cost; a setting is chosen for each."""

WORTH = 0.1
"""Quality that saving the whole cost is worth, where a balance must be struck: ten points."""

_SPARE_STDERRS = 1.0
_HELD_OUT = 1500
_MOST_HELD_OUT = 1 / 3


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One router over a range of cost weights.

    Attributes:
        cost_weights: Length K.
        traffic: What each led to, length K.
        estimates: What the router expected, columns as the table's.
    """

    cost_weights: tuple[float, ...]
    traffic: tuple[ReplayedTraffic, ...]
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
    estimates: Estimates | None = None,
) -> Sweep:
    """Replay a router on a table, once per cost weight, through its own policy.

    Args:
        router: What to replay.
        table: Whose prompts it decides on.
        prices: What the policy reckons with.
        cost_weights: The settings to try.
        estimates: What the router says of the prompts, where it is known; None asks it here.
    """
    estimates = estimates or router.estimate(table.prompts)
    traffic = replayed(router, table, estimates, prices, cost_weights)
    return Sweep(tuple(cost_weights), tuple(traffic), estimates)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A router and what it was fitted on, in this process.

    Attributes:
        recipe: What it is made of.
        router: Fitted.
        train: On what, sorted as `by_query_id` does.
        encoded: The same as its encoder sees it.
    """

    recipe: str
    router: Router
    train: OutcomeTable
    encoded: Encoded


def choose_settings(
    fit: Fit,
    prices: Mapping[str, Prices | None],
    cost_weights: Sequence[float],
    best: int,
    seed: int,
) -> tuple[Setting, ...]:
    """The setting to run, then the cheapest for each loss of quality in `GIVE_UP`.

    The router is tried on its training side, each query by the estimates of a fit that had not
    seen it: those that calibration made anyway or, where a wrapper hides them, those of one fit
    more, on a part of the table. A setting counts when it loses no more than allowed against the
    best single expert, with one standard error to spare; when none does, the one of the highest
    quality is taken. The one to run is, of those that lose nothing, the one of the best `balance`.

    Args:
        fit: The router and its training side.
        prices: What the policy reckons with.
        cost_weights: The settings to try.
        best: Column of the best single expert.
        seed: Source of all randomness.
    """
    losses = (None, *GIVE_UP) if len(cost_weights) > 1 else (None,)
    unseen = _unseen(fit, seed)
    if unseen is None:
        unknown = float("nan")
        return tuple(Setting(loss, 0, unknown, unknown, safe=False) for loss in losses)
    valid, estimates = unseen
    alone, logged = measure_columns(valid, np.full(len(valid), best)), is_logged(fit.train)
    tried = sweep(fit.router, valid, prices, cost_weights, estimates).traffic
    quality = [compared(traffic, alone, "quality", logged=logged) for traffic in tried]
    cost = [compared(traffic, alone, "cost", logged=logged) for traffic in tried]
    found = _Tried(quality, cost)
    return tuple(found.setting(given_up) for given_up in losses)


def _unseen(fit: Fit, seed: int) -> tuple[OutcomeTable, Estimates] | None:
    """Training queries and what a fit that had not seen them expects; None if there is none."""
    train, estimator = fit.train, fit.router.estimator
    if isinstance(estimator, CalibratedEstimator):
        estimates = estimator.out_of_fold(train)
        rows = np.flatnonzero(~np.isnan(estimates.quality_NA).all(axis=1))
        return (train.take(rows), _take(estimates, rows)) if len(rows) else None
    held_out = min(_HELD_OUT / len(train), _MOST_HELD_OUT)
    fit_rows, valid_rows = split_groups(train.groups, held_out, seed)
    if not len(fit_rows) or not len(valid_rows):
        return None
    features = fit.encoded.features
    part = Encoded(fit.encoded.featurizer, features.take(fit_rows))
    try:
        trial = fit_router("trial", fit.recipe, train.take(fit_rows), seed=seed, encoded=part)
    except TableError:
        return None
    return train.take(valid_rows), trial.estimator.predict(features.take(valid_rows))


def _take(estimates: Estimates, rows: npt.NDArray[np.intp]) -> Estimates:
    return Estimates(
        estimates.experts,
        estimates.quality_NA[rows],
        estimates.stderr_NA[rows],
        estimates.output_tokens_NA[rows],
        estimates.latency_s_NA[rows],
    )


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
