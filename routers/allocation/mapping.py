"""Which experts to keep within a budget, and which of them answers which task. An offline job.

Prices and sizes enter here, on the day the fleet is chosen, and not in any estimator.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from routers.errors import RoutingError
from routers.records import Floats

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class FleetQuestion:
    """What is known of experts and tasks, and what may be spent.

    `C` tasks, `A` experts.

    Attributes:
        quality_CA: Expected score in [0, 1], shrunk (see `shrunk`); NaN where an expert is not to
            answer a task.
        cost_CA: Expected dollars (or active parameters) of one request, >= 0.
        size_A: What deploying an expert takes of the size budget: parameters or GB, >= 0.
        traffic_C: Share of the requests that each task makes up; scaled to sum to 1.
        cost_weight: Quality points worth giving up to save one unit of cost, >= 0.
        size_budget: Most that the deployed experts may take together; None: unbounded.
        cost_budget: Most that a request may cost on average; None: unbounded.
        required: Columns of experts that must be deployed, such as the general one.

    Raises:
        RoutingError: Shapes differ, a value is out of range, or a task has no expert at all.
    """

    quality_CA: Floats
    cost_CA: Floats
    size_A: Floats
    traffic_C: Floats
    cost_weight: float = 0.0
    size_budget: float | None = None
    cost_budget: float | None = None
    required: Collection[int] = ()

    def __post_init__(self) -> None:
        tasks, experts = self.quality_CA.shape
        shapes = {"cost_CA": (tasks, experts), "size_A": (experts,), "traffic_C": (tasks,)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise RoutingError(f"{name} has shape {values.shape}, it must be {shape}")
            if not (values >= 0).all():
                raise RoutingError(f"{name} has a value that is no number >= 0")
        if not self.traffic_C.sum() > 0:
            raise RoutingError("traffic_C sums to 0: there is no request to answer")
        if not self._able.any(axis=1).all():
            task = int(np.argmin(self._able.any(axis=1)))
            raise RoutingError(f"no expert is known to answer task {task}")
        for column in self.required:
            if not 0 <= column < experts:
                raise RoutingError(f"required expert {column} is not in 0 .. {experts - 1}")

    @property
    def share_C(self) -> Floats:  # noqa: N802 - the axis is part of the name
        """Traffic, summing to 1."""
        share_C: Floats = self.traffic_C / self.traffic_C.sum()
        return share_C

    @property
    def value_CA(self) -> Floats:  # noqa: N802 - the axis is part of the name
        """What an assignment adds to the objective; -inf where it must not be."""
        gain_CA = self.quality_CA - self.cost_weight * self.cost_CA
        value_CA: Floats = np.where(self._able, self.share_C[:, None] * gain_CA, -np.inf)
        return value_CA

    @property
    def _able(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.quality_CA)


@dataclass(frozen=True, slots=True, eq=False)
class TaskMap:
    """The fleet, and who answers what.

    Attributes:
        deployed: Columns of the deployed experts, sorted: those that answer a task, and those
            required.
        expert_C: Column of the expert that answers each task.
        quality: Expected score of a request.
        cost: Expected cost of a request.
        size: What the deployed experts take together.
        objective: Quality less weighted cost: what was maximised.
    """

    deployed: tuple[int, ...]
    expert_C: npt.NDArray[np.intp]
    quality: float
    cost: float
    size: float
    objective: float

    @classmethod
    def of(cls, question: FleetQuestion, expert_C: npt.NDArray[np.intp]) -> TaskMap:
        """The map in which these experts answer."""
        rows = np.arange(len(expert_C))
        deployed = sorted({*expert_C.tolist(), *question.required})
        quality = float(question.share_C @ question.quality_CA[rows, expert_C])
        cost = float(question.share_C @ question.cost_CA[rows, expert_C])
        size = float(question.size_A[deployed].sum())
        objective = quality - question.cost_weight * cost
        return cls(tuple(deployed), expert_C, quality, cost, size, objective)


def shrunk(mean_CA: Floats, rows_CA: Floats, strength: float = 20.0) -> Floats:
    r"""Means of few rows drawn towards the expert's mean over all tasks.

    .. math:: (n \bar y + s \mu_a) / (n + s)

    Args:
        mean_CA: Mean score; ignored where `rows_CA` is 0.
        rows_CA: How many outcomes it is the mean of, >= 0.
        strength: s > 0, how many outcomes the overall mean counts as.

    Returns:
        Shape (C, A); NaN for an expert without any outcome.
    """
    seen_CA = np.where(rows_CA > 0, mean_CA, 0.0)
    total_A = rows_CA.sum(axis=0)
    unknown_A = np.full(len(total_A), np.nan)
    pool_A = np.divide((rows_CA * seen_CA).sum(axis=0), total_A, out=unknown_A, where=total_A > 0)
    drawn_CA: Floats = (rows_CA * seen_CA + strength * pool_A) / (rows_CA + strength)
    return drawn_CA


def best_map(question: FleetQuestion, *, gap: float = 5e-4, time_limit_s: float = 60.0) -> TaskMap:
    r"""The best fleet and map within the budgets, by mixed-integer programming (HiGHS).

    .. math:: \max \sum_c w_c \sum_a x_{ca} (\mu_{ca} - \lambda \kappa_{ca}) \quad
        \text{s.t.} \quad \sum_a x_{ca} = 1,\; x_{ca} \le y_a,\; \sum_a |E_a| y_a \le B,\;
        \sum_{ca} w_c x_{ca} \kappa_{ca} \le K

    with x and y in {0, 1}. Under a cost budget, first only y is whole: the bound that this gives is
    often one that a map of that fleet reaches. If not, what the linear relaxation prices out of the
    gap that is left (reduced costs) is fixed before all is solved whole. Sixty tasks and fifty
    experts take seconds (`python benchmarks/mapping.py`).

    Args:
        question: What is known and what may be spent.
        gap: By what share of the objective the fleet may be below the best, >= 0.
        time_limit_s: When to stop; the best fleet found until then is returned.

    Raises:
        RoutingError: No fleet fits a budget (the message names it and the least that it would have
            to be), or none was found in time.

    Source: Jain et al., "Composition of Experts: A Modular Compound AI System Leveraging Large
    Language Models", 2024.
    """
    _check_size(question)
    program = Program(question, time.monotonic() + time_limit_s)
    # Without a bound on cost, every task goes to its best deployed expert of its own accord.
    tight = question.cost_budget is not None
    found = program.solved(whole=program.is_y, gap=gap / 2 if tight else gap)
    if found.x is None:
        _explain(question, found.status, time_limit_s)
    if not tight:
        return program.map_of(found.x)
    fleet = np.where(program.is_y, np.round(found.x), np.inf)
    mapped = program.solved(whole=~program.is_y, gap=gap / 4, fleet=fleet)
    if mapped.x is None:
        _explain(question, mapped.status, time_limit_s)
    if -found.mip_dual_bound + mapped.fun > gap * abs(mapped.fun):
        better = program.narrowed(-mapped.fun).solved(
            whole=np.full(len(program.gains), True), gap=gap
        )
        mapped = mapped if better.x is None or better.fun > mapped.fun else better
    return program.map_of(mapped.x)


def greedy_map(question: FleetQuestion) -> TaskMap:
    """A good map, built up by adding the expert that gains most per size, in milliseconds.

    Without a cost budget the gain of an expert falls as others are added (facility location), so
    that greedy is within 1 - 1/e of the best for equal sizes (Nemhauser, Wolsey & Fisher, 1978).
    Under a cost budget the weight of cost is raised until the map fits.

    Raises:
        RoutingError: No fleet was found that fits; the message names the budget.
    """
    _check_size(question)
    cheapest: TaskMap | None = None
    for weight in _cost_weights(question):
        expert_C = _grown(replace(question, cost_weight=weight))
        found = TaskMap.of(question, expert_C)
        if question.cost_budget is None or found.cost <= question.cost_budget + _SLACK:
            return found
        cheapest = found
    least = cheapest.cost if cheapest else float("nan")
    raise RoutingError(
        f"no greedy fleet fits the cost budget of {question.cost_budget:g}: the cheapest found "
        f"costs {least:g} a request"
    )


class Program:
    """The mixed-integer program over x (C·A, who answers what) and y (A, who is deployed).

    Attributes:
        gains: What each variable adds to the objective.
        is_y: Which variables are y.

    Args:
        question: What is known and what may be spent.
        deadline: When to stop, by `time.monotonic`.
    """

    def __init__(self, question: FleetQuestion, deadline: float) -> None:
        self._question = question
        self._deadline = deadline
        tasks, experts = question.quality_CA.shape
        value_CA = question.value_CA
        able_CA = np.isfinite(value_CA)
        self.gains = np.concatenate([np.where(able_CA, value_CA, 0.0).ravel(), np.zeros(experts)])
        self.is_y = np.arange(len(self.gains)) >= tasks * experts
        required_A = np.isin(np.arange(experts), list(question.required))
        self._lows = np.concatenate([np.zeros(tasks * experts), required_A])
        self._highs = np.concatenate([able_CA.ravel(), np.ones(experts)]).astype(np.float64)
        self._rows = list(_constraints(question))

    @property
    def open(self) -> int:
        """How many variables have more than one value."""
        return int((self._lows < self._highs).sum())

    def solved(self, whole: npt.NDArray[np.bool_], gap: float, fleet: Floats | None = None) -> Any:
        """SciPy's result, with `whole` variables whole and, if given, y bound to `fleet`."""
        # Only this offline job needs it, and it takes longer to load than a gateway to start.
        from scipy.optimize import Bounds, LinearConstraint, milp

        lows, highs = self._lows, self._highs
        if fleet is not None:
            lows, highs = np.where(self.is_y, fleet, lows), np.minimum(fleet, highs)
        return milp(
            -self.gains,
            integrality=whole,
            bounds=Bounds(lows, highs),
            constraints=[LinearConstraint(*row) for row in self._rows],
            options={"mip_rel_gap": gap, "time_limit": max(self._deadline - time.monotonic(), 0.0)},
        )

    def narrowed(self, objective: float) -> Program:
        """The same without the values of variables that no map better than `objective` has."""
        from scipy.optimize import linprog
        from scipy.sparse import csr_matrix, vstack

        (once, _, _), *limits = self._rows
        relaxed = linprog(
            -self.gains,
            csr_matrix(vstack([row for row, _, _ in limits])),
            np.concatenate([np.full(row.shape[0], most) for row, _, most in limits]),
            csr_matrix(once),
            np.ones(once.shape[0]),
            np.stack([self._lows, self._highs], axis=1),
            "highs-ds",
        )
        room = -relaxed.fun - objective + _SLACK
        less = copy(self)
        less._lows = np.where(-relaxed.upper.marginals > room, self._highs, self._lows)
        less._highs = np.where(relaxed.lower.marginals > room, self._lows, self._highs)
        return less

    def map_of(self, found: Floats) -> TaskMap:
        """The map that a solution stands for."""
        chosen_CA = found[~self.is_y].reshape(self._question.quality_CA.shape)
        return TaskMap.of(self._question, chosen_CA.argmax(axis=1))


def _constraints(question: FleetQuestion) -> Iterator[tuple[Any, float, float]]:
    """Rows (matrix, low, high) over the variables x (C·A) and y (A); first the equations."""
    from scipy.sparse import csr_matrix, eye, hstack, kron

    tasks, experts = question.quality_CA.shape
    answered = kron(eye(tasks), np.ones((1, experts)))
    yield hstack([answered, csr_matrix((tasks, experts))]), 1.0, 1.0
    deployed = kron(np.ones((tasks, 1)), eye(experts))
    yield hstack([eye(tasks * experts), -deployed]), -np.inf, 0.0
    if question.size_budget is not None:
        sizes = np.concatenate([np.zeros(tasks * experts), question.size_A])
        yield csr_matrix(sizes), -np.inf, question.size_budget + _SLACK
    if question.cost_budget is not None:
        costs_CA = question.share_C[:, None] * question.cost_CA
        costs = np.concatenate([costs_CA.ravel(), np.zeros(experts)])
        yield csr_matrix(costs), -np.inf, question.cost_budget + _SLACK


def _check_size(question: FleetQuestion) -> None:
    if question.size_budget is None:
        return
    least = float(question.size_A[sorted(set(question.required))].sum())
    if least == 0:
        least = float(question.size_A.min())
    if least > question.size_budget + _SLACK:
        raise RoutingError(
            f"no fleet fits the size budget of {question.size_budget:g}: the experts that it must "
            f"hold take {least:g}"
        )


def _explain(question: FleetQuestion, status: int, time_limit_s: float) -> None:
    if status == 1:
        raise RoutingError(f"no fleet was found within {time_limit_s:g} s; allow more time")
    if question.cost_budget is not None:
        cheapest = replace(
            question, quality_CA=np.where(np.isnan(question.quality_CA), np.nan, 0.0)
        )
        least = best_map(replace(cheapest, cost_weight=1.0, cost_budget=None)).cost
        raise RoutingError(
            f"no fleet fits the cost budget of {question.cost_budget:g}: the cheapest costs "
            f"{least:g} a request"
        )
    raise RoutingError(
        f"no fleet fits the size budget of {question.size_budget:g} and answers every task"
    )


def _cost_weights(question: FleetQuestion) -> Iterator[float]:
    yield question.cost_weight
    if question.cost_budget is not None:
        dearest = max(float(question.cost_CA.max()), np.finfo(np.float64).tiny)
        for power in range(-6, 21):
            yield question.cost_weight + 2.0**power / dearest


def _grown(question: FleetQuestion) -> npt.NDArray[np.intp]:
    """Who answers what after greedily adding experts until none fits or helps."""
    value_CA = question.value_CA
    fleet = sorted(set(question.required))
    room = np.inf if question.size_budget is None else question.size_budget
    room -= question.size_A[fleet].sum()
    # Any answer is better than none.
    floor = value_CA[np.isfinite(value_CA)].min() - 1.0
    value_CA = np.maximum(value_CA, floor)
    best_C = value_CA[:, fleet].max(axis=1, initial=floor)
    while True:
        gain_A = (np.maximum(value_CA, best_C[:, None]) - best_C[:, None]).sum(axis=0)
        gain_A[question.size_A > room + _SLACK] = 0.0
        worth_A = gain_A / np.maximum(question.size_A, _SLACK) if np.isfinite(room) else gain_A
        place = int(worth_A.argmax())
        if gain_A[place] <= 0:
            break
        fleet.append(place)
        room -= question.size_A[place]
        best_C = np.maximum(best_C, value_CA[:, place])
    expert_C: npt.NDArray[np.intp] = np.array(fleet)[value_CA[:, fleet].argmax(axis=1)]
    if (value_CA[np.arange(len(best_C)), expert_C] <= floor).any():
        raise RoutingError(
            f"no greedy fleet fits the size budget of {question.size_budget} and answers every task"
        )
    return expert_C
