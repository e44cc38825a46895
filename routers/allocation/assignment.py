"""A batch of requests shared out among experts that can take only so many each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.records import Floats

_MOST_ROUNDS = 5000
_CLOSE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Who answers what.

    Attributes:
        chosen_N: Column of the expert of each request.
        prices_A: Shadow prices v: the utility that one more place with each expert would add to the
            total, >= 0; 0 where it has room. Greedy on utility - v shares out alike.
    """

    chosen_N: npt.NDArray[np.intp]
    prices_A: Floats


def assign(utility_NA: Floats, capacity_A: npt.NDArray[np.intp]) -> Assignment:
    """The assignment of the highest total utility that no expert's capacity forbids.

    max Σ a_nm · u_nm with Σ_m a_nm = 1, Σ_n a_nm <= capacity_m, a >= 0, by linear programming: its
    corners are whole numbers, so nothing is divided. With one request per expert it is Hungarian
    assignment.

    Source: the assignment of "Sparsity-Constrained Optimal Transport" (Liu, Puigcerver & Blondel,
    2022) in its exact form, by HiGHS.

    Args:
        utility_NA: What each request is worth with each expert; finite.
        capacity_A: Most requests of each expert, whole numbers >= 0.

    Raises:
        ValueError: All capacities together are less than N.
    """
    count, experts = utility_NA.shape
    _check_room(float(np.sum(capacity_A)), count)
    # Few need it, and both take longer to load than a gateway to start.
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron

    once = kron(eye_array(count), np.ones((1, experts)), format="csr")
    room = kron(np.ones((1, count)), eye_array(experts), format="csr")
    found = linprog(
        -utility_NA.ravel(), room, capacity_A, once, np.ones(count), (0, None), "highs-ds"
    )
    share_NA = found.x.reshape(count, experts)
    return Assignment(share_NA.argmax(axis=1), np.maximum(-found.ineqlin.marginals, 0.0))


def sinkhorn(utility_NA: Floats, capacity_A: Floats, temperature: float) -> tuple[Floats, Floats]:
    """The same with a taste for chance: p_nm ∝ exp((u_nm - v_m) / temperature).

    Maximises Σ a · u plus temperature times the entropy, under the same limits, by scaling rows and
    columns in turn. As the temperature falls it tends to `assign`, and takes longer.

    Source: Cuturi, "Sinkhorn Distances", 2013; capacities as inequalities after Benamou et al.,
    "Iterative Bregman Projections for Regularized Transportation Problems", 2015.

    Args:
        utility_NA: As in `assign`.
        capacity_A: Most requests of each expert, > 0; need not be whole.
        temperature: In utility; > 0.

    Returns:
        The distribution of each request, rows summing to 1, shape (N, A), and the prices v, (A,).

    Raises:
        ValueError: All capacities together are less than N.
    """
    _check_room(float(capacity_A.sum()), len(utility_NA))
    scaled_NA = utility_NA / temperature
    price_A = np.zeros(len(capacity_A))
    for _ in range(_MOST_ROUNDS):
        whole_N1 = _log_sum(scaled_NA - price_A, axis=1)
        wanted_A = _log_sum(scaled_NA - whole_N1, axis=0)[0] - np.log(capacity_A)
        before_A, price_A = price_A, np.maximum(wanted_A, 0.0)
        if np.abs(price_A - before_A).max() < _CLOSE:
            break
    odds_NA = scaled_NA - price_A
    share_NA: Floats = np.exp(odds_NA - _log_sum(odds_NA, axis=1))
    return share_NA, temperature * price_A


def _log_sum(values_NA: Floats, axis: int) -> Floats:
    """Log Σ exp along an axis, which stays."""
    largest = values_NA.max(axis=axis, keepdims=True)
    total: Floats = largest + np.log(np.exp(values_NA - largest).sum(axis=axis, keepdims=True))
    return total


def _check_room(room: float, wanted: int) -> None:
    if room < wanted - 1e-9:
        raise ValueError(f"{wanted} requests don't fit: all experts together take {room:g}")
