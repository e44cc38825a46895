"""Who takes part in a mixture: quality beats diversity, and doubt makes room for more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routers.policies.softmax import softmax
from routers.policies.top_p import top_p
from routers.records import Floats


@dataclass(frozen=True, slots=True)
class SeatRules:
    """When others than the best take part.

    Attributes:
        margin: δ: only experts whose expected quality is within this of the best one's, >= 0.
        mass: Of those, the fewest whose chances of being the best sum to this, in (0, 1].
        temperature: Quality points by which chances fall to 1/e, where no standard errors are
            known to say so; > 0.
    """

    margin: float = 0.03
    mass: float = 0.9
    temperature: float = 0.02

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"the margin must be >= 0, got {self.margin!r}")
        if not 0 < self.mass <= 1:
            raise ValueError(f"the mass must be in (0, 1], got {self.mass!r}")
        if not self.temperature > 0:
            raise ValueError(f"the temperature must be > 0, got {self.temperature!r}")


def seated(
    quality_A: Floats, stderr_A: Floats, seats: int, rules: SeatRules = SeatRules()
) -> tuple[int, ...]:
    r"""The expert on each of `seats` seats, the best first; one who is clearly best gets all.

    .. math:: S = \text{top-}p\left(\text{softmax}_{m: q_m \ge q^* - \delta}(q_m / t),
        \tau\right), \quad t = \max(t_0, \bar s)

    with s̄ the mean standard error of those within the margin: the less sure it is who is best, the
    more take part. Their seats follow their chances, by largest remainders, and each gets one as
    long as there are seats. If nobody is within δ of the best, all seats are its own (Self-MoA).

    Args:
        quality_A: Expected quality in [0, 1], no NaN, shape (A,), A >= 1.
        stderr_A: Standard errors >= 0, same shape; NaN counts as 0.
        seats: >= 1.
        rules: When others take part.

    Returns:
        Columns, of length `seats`.

    Sources: Li et al., "Rethinking Mixture-of-Agents", 2025 (mix only equals); Huang et al.,
    "Harder Tasks Need More Experts", 2024 (top-p).
    """
    near_A = quality_A >= quality_A.max() - rules.margin
    spread = float(np.nan_to_num(stderr_A[near_A]).mean())
    chance_A = softmax(np.where(near_A, quality_A, -np.inf), max(rules.temperature, spread))
    members = top_p(chance_A, rules.mass)[:seats]
    # The first has seat and chair whatever chances say: ties go to the first column.
    own_M = chance_A[list(members)] / chance_A[list(members)].sum()
    counts_M = np.ones(len(members), dtype=int)
    for _ in range(seats - len(members)):
        counts_M[int(np.argmax(own_M * seats - counts_M))] += 1
    return tuple(
        member for member, count in zip(members, counts_M, strict=True) for _ in range(count)
    )
