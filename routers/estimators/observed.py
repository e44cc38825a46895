"""Which outcomes were observed, what each weighs, and how predictions of them are judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.errors import TableError
from routers.records import FeatureBatch, Floats, OutcomeTable

# A row that was logged with probability .002 would outweigh five hundred others.
_HEAVIEST = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Scores as arrays that can be multiplied: nothing is NaN, weight 0 means unobserved.

    Attributes:
        score_NA: The score; 0 where unobserved.
        weight_NA: 1 / propensity, at most 50, divided by its mean over the expert's observed
            rows; 0 where unobserved.
        mean_A: Weighted mean score per expert; NaN for one never observed.
    """

    score_NA: Floats
    weight_NA: Floats
    mean_A: Floats

    def take(self, rows: npt.NDArray[np.intp]) -> Observed:
        """The same for some rows only, means included."""
        return _observed(self.score_NA[rows], self.weight_NA[rows])


def observed(features: FeatureBatch, table: OutcomeTable) -> Observed:
    """Check that `table` can be learned from and take its scores out.

    Raises:
        TableError: The rows don't match the features, nothing is observed, or a score or a
            propensity is out of range.
    """
    if np.isnan(table.score_NA).all():
        raise TableError("no score is observed in this table, so there is nothing to learn")
    return observed_if_any(features, table)


def observed_if_any(features: FeatureBatch, table: OutcomeTable) -> Observed:
    """The same as `observed`, of a table in which there may be nothing.

    Raises:
        TableError: The rows don't match the features, or a score or a propensity is out of range.
    """
    if len(features) != len(table):
        raise TableError(f"{len(features)} rows of features for {len(table)} rows of outcomes")
    seen_NA = ~np.isnan(table.score_NA)
    _check_range(table, "score", table.score_NA, seen_NA & ~_between(table.score_NA, 0.0))
    tiny = np.finfo(np.float64).tiny
    off_NA = seen_NA & ~_between(table.propensity_NA, tiny)
    _check_range(table, "propensity", table.propensity_NA, off_NA)
    weight_NA = np.zeros_like(table.score_NA)
    weight_NA[seen_NA] = np.minimum(1 / table.propensity_NA[seen_NA], _HEAVIEST)
    return _observed(np.where(seen_NA, table.score_NA, 0.0), weight_NA)


def _observed(score_NA: Floats, weight_NA: Floats) -> Observed:
    total_A = weight_NA.sum(axis=0)
    seen_A = total_A > 0
    unknown_A = np.full(len(total_A), np.nan)
    sums_A = (weight_NA * score_NA).sum(axis=0)
    mean_A = np.divide(sums_A, total_A, out=unknown_A, where=seen_A)
    count_A = (weight_NA > 0).sum(axis=0)
    scale_A = np.divide(count_A, total_A, out=np.ones(len(total_A)), where=seen_A)
    return Observed(score_NA, weight_NA * scale_A, mean_A)


def _between(values_NA: Floats, low: float) -> npt.NDArray[np.bool_]:
    within: npt.NDArray[np.bool_] = (values_NA >= low) & (values_NA <= 1)
    return within


def _check_range(
    table: OutcomeTable, what: str, values_NA: Floats, off_NA: npt.NDArray[np.bool_]
) -> None:
    if not off_NA.any():
        return
    row, column = (int(index) for index in np.argwhere(off_NA)[0])
    raise TableError(
        f"{what} {values_NA[row, column]!r} of expert {table.experts[column]!r} on query "
        f"{table.query_ids[row]!r} is not in [0, 1]; mend or remove that row"
    )


def choice_error(predicted_NA: Floats, outcomes: Observed) -> float:
    """Mean squared error of what decides a choice: the difference between experts.

    In rows with several observed experts, prediction and score are centred on the row, because
    how hard a query is for everybody settles nothing. A row with one is judged as it is.

    Args:
        predicted_NA: Predicted scores, shape (N, A), NaN where nothing is predicted.
        outcomes: What was observed, same shape.
    """
    weight_NA = np.where(np.isnan(predicted_NA), 0.0, outcomes.weight_NA)
    error_NA = np.where(weight_NA > 0, predicted_NA - outcomes.score_NA, 0.0)
    several_N = (weight_NA > 0).sum(axis=1) > 1
    row_weight_N = np.maximum(weight_NA.sum(axis=1), np.finfo(np.float64).tiny)
    centre_N = np.where(several_N, (weight_NA * error_NA).sum(axis=1) / row_weight_N, 0.0)
    error_NA = error_NA - centre_N[:, None]
    return float((weight_NA * error_NA**2).sum() / max(weight_NA.sum(), 1e-12))
