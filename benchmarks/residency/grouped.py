"""How few wakes serve a row of requests if each group of them may be served in any order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def grouped_faults(row: Sequence[str], room: int, group: int) -> int:
    """The least number of wakes, the future known, that serves group after group.

    Exact, by dynamic programming over the sets that may be awake after a group. Whoever is asked in
    it and awake is served first and may then make room; of those woken for it, the last stays.

    Args:
        row: Who is asked, in order.
        room: How many can be awake at once, >= 1.
        group: Requests that may change places, >= 1. With 1 it is Belady's count.
    """
    bit = {name: 1 << place for place, name in enumerate(sorted(set(row)))}
    sets = (chosen for size in range(room + 1) for chosen in combinations(bit.values(), size))
    held_S = np.array([sum(chosen) for chosen in sets])
    least_S, before_S = np.array([0.0]), np.array([0])
    for start in range(0, len(row), group):
        asked = sum({bit[name] for name in row[start : start + group]})
        missing_S = asked & ~before_S
        woken_S = np.bitwise_count(missing_S)
        there_SS = (held_S & ~(before_S | asked)[:, None]) == 0
        lasts_SS = (woken_S == 0)[:, None] | ((held_S & missing_S[:, None]) != 0)
        cost_SS = np.where(there_SS & lasts_SS, (least_S + woken_S)[:, None], np.inf)
        least_S, before_S = cost_SS.min(axis=0), held_S
    return int(least_S.min())
