"""The uniform policy: every eligible expert equally often. The random baseline."""

from __future__ import annotations

import numpy as np

from routers.records import Candidates, Floats, Preference


class UniformPolicy:
    """The same probability for every expert, whatever is expected of it."""

    name = "uniform"

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        count = len(candidates.experts)
        return np.full(count, 1 / count), np.zeros(count)
