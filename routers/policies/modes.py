"""The modes policy: slow modes of a model are worth something only where its instant mode fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from routers.policies.greedy import on_the_best, utilities
from routers.records import Candidates, Floats, Preference


@dataclass(frozen=True, slots=True)
class ModesPolicy:
    r"""The highest utility, after a slow mode's quality is cut by how surely the instant one works.

    .. math:: r = a \cdot (1 - 1[\text{mode} \ne \text{instant}] \cdot \hat p^\alpha)

    With a the quality expected of an expert and p̂ that expected of the instant mode of the same
    model on this request. What A²FM rewards in training is this in expectation, since p̂ follows
    from the request: so an estimator learns plain quality, and the rule is applied when deciding,
    where it can be changed without training again.

    Where p̂ is 1 no slow mode is ever chosen, where it is 0 only quality counts. `min_quality` is
    about quality itself.

    Source: Chen et al., "A²FM: An Adaptive Agent Foundation Model for Tool-Aware Hybrid
    Reasoning", 2025 (adaptive policy optimisation, α = 2).

    Attributes:
        instant: Expert id of each slow mode to that of the same model's instant mode; who is no key
            is taken as it is. A slow mode whose instant one can't serve the request, too.
        power: α, > 0.
    """

    name = "modes"

    instant: Mapping[str, str] = field(default_factory=dict)
    power: float = 2.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"the power must be > 0, got {self.power!r}")

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        working_A = self._working(candidates)
        reward_A = adaptive_reward(candidates.quality_A, working_A, self.power)
        utility_A = utilities(replace(candidates, quality_A=reward_A), preference)
        return on_the_best(utility_A, candidates, preference), utility_A

    def _working(self, candidates: Candidates) -> Floats:
        quality = dict(zip(candidates.experts, candidates.quality_A.tolist(), strict=True))
        return np.array(
            [quality.get(self.instant.get(name, ""), 0.0) for name in candidates.experts]
        )


def adaptive_reward(quality_A: Floats, working_A: Floats, power: float = 2.0) -> Floats:
    """Quality · (1 − working^power), any shape.

    Args:
        quality_A: Score or expected score, in [0, 1].
        working_A: P(the instant mode is right), in [0, 1]; 0 for an instant mode itself.
        power: > 0.
    """
    rewards_A: Floats = quality_A * (1 - working_A**power)
    return rewards_A
