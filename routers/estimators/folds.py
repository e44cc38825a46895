"""Splits for cross-validation that keep near-identical queries together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]


def group_folds(groups: Sequence[str], count: int, rng: np.random.Generator) -> list[Rows]:
    """Rows to hold out, fold by fold; no group is in two folds.

    Args:
        groups: Group of each row, length N.
        count: How many folds; fewer are made when there are fewer groups.
        rng: Decides which group goes where.

    Returns:
        The held-out rows of each fold, sorted and disjoint, together all N. Empty when there are
        fewer than two groups, so nothing can be held out.
    """
    names, group_of_N, sizes = np.unique(
        np.asarray(groups, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    count = min(count, len(names))
    if count < 2:
        return []
    fold_of_group = np.zeros(len(names), dtype=np.intp)
    filled = np.zeros(count, dtype=np.intp)
    for group in rng.permutation(len(names)):
        fold_of_group[group] = np.argmin(filled)
        filled[fold_of_group[group]] += sizes[group]
    fold_of_N = fold_of_group[group_of_N]
    return [np.flatnonzero(fold_of_N == fold) for fold in range(count)]


def others(held_out: Rows, total: int) -> Rows:
    """The rows of `range(total)` that are not held out."""
    kept = np.ones(total, dtype=bool)
    kept[held_out] = False
    return np.flatnonzero(kept)
