"""Task labels that their neighbourhood contradicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from routers.records import Floats

_NEIGHBOURS = 15
_MAJORITY = 0.5
_AGAINST_IT = 0.5
_BLOCK = 512
_MOST_VOTERS = 20_000


def trusted_labels(
    vectors_ND: Floats, labels_N: npt.NDArray[np.intp], groups: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Which labels to believe, by a leave-one-out vote of the 15 nearest rows of other groups.

    A label is doubted when at least half of the neighbours agree on another one, and less than
    half as many share it. A label that would lose most of its rows keeps them all, so that no task
    disappears. In a table of more than 20,000 rows only every so many rows have a vote.

    Args:
        vectors_ND: Unit vectors.
        labels_N: Label of each row, >= 0.
        groups: Near-identical rows, which must not vote for each other.
    """
    if len(labels_N) <= _NEIGHBOURS:
        return np.ones(len(labels_N), dtype=bool)
    _, group_N = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    count = int(labels_N.max()) + 1
    voters = slice(None, None, -(-len(labels_N) // _MOST_VOTERS))
    votes_NC = np.concatenate(
        [
            _votes(vectors_ND, labels_N, group_N, slice(start, start + _BLOCK), voters, count)
            for start in range(0, len(labels_N), _BLOCK)
        ]
    )
    own_N = votes_NC[np.arange(len(labels_N)), labels_N]
    top_N = votes_NC.max(axis=1)
    trusted_N: npt.NDArray[np.bool_] = (own_N >= _AGAINST_IT * top_N) | (top_N < _MAJORITY)
    for label in range(count):
        mine_N = labels_N == label
        if trusted_N[mine_N].sum() < mine_N.sum() / 2:
            trusted_N |= mine_N
    return trusted_N


def _votes(
    vectors_ND: Floats,
    labels_N: npt.NDArray[np.intp],
    group_N: npt.NDArray[np.intp],
    block: slice,
    voters: slice,
    count: int,
) -> Floats:
    alike_BV = vectors_ND[block] @ vectors_ND[voters].T
    alike_BV[group_N[block, None] == group_N[voters]] = -np.inf
    near_BK = np.argpartition(alike_BV, -_NEIGHBOURS, axis=1)[:, -_NEIGHBOURS:]
    shares_BC = np.zeros((len(near_BK), count))
    rows_B1 = np.arange(len(near_BK))[:, None]
    np.add.at(shares_BC, (rows_B1, labels_N[voters][near_BK]), 1 / _NEIGHBOURS)
    return shares_BC
