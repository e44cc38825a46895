"""BEST-Route: a model asked n times is an expert of its own; the cheapest that likely matches wins.

With n = 1 throughout it is HybridLLM with a probabilistic label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.deferral.line import Line
from routers.errors import RoutingError, TableError
from routers.records import Floats, State, Vectors

_PENALTY = 3.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One model asked `n` times, its best answer kept."""

    model: str
    n: int = 1

    def __str__(self) -> str:
        return self.model if self.n == 1 else f"{self.model}#bo{self.n}"


@dataclass(frozen=True, slots=True, eq=False)
class BestRoute:
    """P(an arm's answer is no worse than the reference's by more than a margin), per arm.

    Attributes:
        arms: The last is the reference.
        usd_A: Mean dollars of each arm, its n samples included.
        heads: One for each arm but the reference.

    Source: Ding et al., "BEST-Route", 2025; "Hybrid LLM", 2024 for its labels.
    """

    arms: tuple[Arm, ...]
    usd_A: Floats
    heads: tuple[Line, ...]

    @classmethod
    def fit(cls, arms: Sequence[Arm], vectors_ND: Vectors, match_NA: Floats, usd_A: Floats) -> Self:
        """Learn one head per arm.

        Args:
            arms: Ids and n; the last is the reference.
            vectors_ND: One vector per request.
            match_NA: Share of sample pairs in which the arm is no worse than the reference by more
                than the margin, in [0, 1], shape (N, A − 1); see `match_labels`.
            usd_A: Mean dollars of each arm.

        Raises:
            TableError: Fewer than two arms, or shapes that don't belong together.
        """
        if len(arms) < 2 or match_NA.shape != (len(vectors_ND), len(arms) - 1):
            raise TableError("needs two arms or more, and a label for each but the reference")
        rows = vectors_ND.astype(np.float64)
        heads = tuple(Line.fit(rows, match_NA[:, arm], _PENALTY) for arm in range(len(arms) - 1))
        return cls(tuple(arms), np.asarray(usd_A, dtype=np.float64), heads)

    def chances(self, vectors_ND: Vectors) -> Floats:
        """P(match) per arm, 1 for the reference, shape (N, A)."""
        rows = vectors_ND.astype(np.float64)
        columns = [head.predict(rows) for head in self.heads]
        return np.stack([*columns, np.ones(len(rows))], axis=1)

    def choose(self, vectors_ND: Vectors, least: float) -> npt.NDArray[np.intp]:
        """The cheapest arm with P(match) >= `least`; the reference where no other has it."""
        able_NA = self.chances(vectors_ND) >= least
        able_NA[:, -1] = True
        chosen_N: npt.NDArray[np.intp] = np.where(able_NA, self.usd_A, np.inf).argmin(axis=1)
        return chosen_N

    def state(self) -> State:
        arrays = {"usd": self.usd_A}
        for place, head in enumerate(self.heads):
            params, parts = head.state()
            arrays |= {f"{place}/{name}": part for name, part in parts.items()}
            arrays[f"{place}/offset"] = np.array([params["offset"]])
        return {"arms": [[arm.model, arm.n] for arm in self.arms]}, arrays

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        arms = tuple(Arm(model, int(n)) for model, n in params["arms"])
        if not arms:
            raise RoutingError("a BEST-Route artifact names no arms")
        heads = tuple(
            Line(
                arrays[f"{place}/centre"],
                arrays[f"{place}/spread"],
                float(arrays[f"{place}/offset"][0]),
                arrays[f"{place}/slope"],
            )
            for place in range(len(arms) - 1)
        )
        return cls(arms, arrays["usd"], heads)


def match_labels(best_NS: Floats, reference_NT: Floats, margin: float = 0.0) -> Floats:
    """P(arm's score >= reference's − margin) over all pairs of their samples, shape (N,).

    Args:
        best_NS: Scores of S draws of the arm (of its best of n), shape (N, S).
        reference_NT: Scores of T draws of the reference.
        margin: t >= 0.
    """
    pairs_NST = best_NS[:, :, None] >= reference_NT[:, None, :] - margin
    labels_N: Floats = pairs_NST.mean(axis=(1, 2))
    return labels_N


def easier_margin(best_NS: Floats, reference_NT: Floats, margins: Sequence[float]) -> float:
    """The margin t whose labels are spread widest, HybridLLM's choice where one side is too weak.

    Returns:
        The t with the largest mean absolute difference between two requests' labels.
    """

    def spread(margin: float) -> float:
        labels_N = np.sort(match_labels(best_NS, reference_NT, margin))
        count = len(labels_N)
        weights_N = 2 * np.arange(count) - count + 1
        return float(2 * weights_N @ labels_N) / count**2

    return max(margins, key=spread)


def best_of_n(samples_NS: Floats, reward_NS: Floats, n: int) -> Floats:
    """Expected score of the best of n samples by a reward, drawn without replacement, shape (N,).

    Exact: the sample of rank r (from 0, the worst) is the best of n with chance C(r, n−1)/C(S, n).

    Args:
        samples_NS: Scores of S samples.
        reward_NS: What a selector says of each; ties go to the later sample.
        n: 1 to S.
    """
    count = samples_NS.shape[1]
    if not 1 <= n <= count:
        raise ValueError(f"n must be 1 to {count}, got {n}")
    order = np.argsort(reward_NS, axis=1, kind="stable")
    sorted_NS = np.take_along_axis(samples_NS, order, axis=1)
    chance_S = np.zeros(count)
    chance_S[-1] = n / count
    for rank in range(count - 2, -1, -1):
        # C(r, n-1) = C(r+1, n-1) * (r + 2 - n) / (r + 1)
        chance_S[rank] = chance_S[rank + 1] * max(rank + 2 - n, 0) / (rank + 1)
    expected_N: Floats = sorted_NS @ chance_S
    return expected_N
