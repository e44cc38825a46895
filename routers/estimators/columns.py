"""The order of experts that training goes by: names and their order must decide nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from routers.records import Floats


def by_content(*parts_NA: Floats) -> npt.NDArray[np.intp]:
    """Columns sorted by what is in them, so that sums are taken in one order, whatever theirs was.

    Args:
        parts_NA: What is known of each expert, all of as many columns and without NaN.
    """
    parts_AN = np.concatenate(parts_NA).T
    keys = [np.ascontiguousarray(part_N).tobytes() for part_N in parts_AN]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)
