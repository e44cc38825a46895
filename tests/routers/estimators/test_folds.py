"""Splits that keep groups together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routers.estimators.folds import group_folds, others

GROUPS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60)


@given(GROUPS, st.integers(2, 6), st.integers(0, 9))
def test_folds_cover_all_rows_once_and_split_no_group(
    groups: list[str], count: int, seed: int
) -> None:
    folds = group_folds(groups, count, np.random.default_rng(seed))
    assert len(folds) == (min(count, len(set(groups))) if len(set(groups)) > 1 else 0)
    if folds:
        assert sorted(np.concatenate(folds)) == list(range(len(groups)))
    for fold in folds:
        inside = {groups[row] for row in fold}
        outside = {groups[row] for row in others(fold, len(groups))}
        assert not inside & outside


@given(GROUPS, st.integers(0, 9))
def test_the_order_of_rows_moves_no_group(groups: list[str], seed: int) -> None:
    def by_group(rows: list[str]) -> list[set[str]]:
        folds = group_folds(rows, 3, np.random.default_rng(seed))
        return [{rows[row] for row in fold} for fold in folds]

    assert by_group(groups) == by_group(groups[::-1])


def test_folds_are_about_equally_large() -> None:
    groups = ["big"] * 50 + [f"small{i}" for i in range(50)]
    sizes = [len(fold) for fold in group_folds(groups, 2, np.random.default_rng(0))]
    assert max(sizes) - min(sizes) <= 50
    assert min(sizes) >= 25
