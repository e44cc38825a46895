"""From a table of outcomes to the best fleet within its budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.errors import ComparisonError
from eval.tables.pool import with_experts
from routers.allocation.mapping import FleetQuestion, TaskMap, best_map, shrunk
from routers.records import Floats, OutcomeTable


@dataclass(frozen=True, slots=True)
class Budgets:
    """What may be spent; None is unbounded.

    Attributes:
        size: Most that the hosted experts may take together, in the unit of the sizes.
        load: Most that a request may take on average, in the unit of the loads.
        load_weight: Quality points worth giving up to save one unit of load, >= 0.
    """

    size: float | None = None
    load: float | None = None
    load_weight: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Quarry:
    """What a fleet can be made of: `C` tasks, `A` experts whose footprint is known.

    Attributes:
        table: Outcomes of these experts only.
        tasks: Length C, sorted.
        question: Quality by task, sizes, loads and traffic, without budgets.
        left_out: Experts whose size or load is not known.
    """

    table: OutcomeTable
    tasks: tuple[str, ...]
    question: FleetQuestion
    left_out: tuple[str, ...]

    @property
    def experts(self) -> tuple[str, ...]:
        return self.table.experts


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """The experts to host and who of them answers which task.

    Attributes:
        budgets: What it had to fit.
        experts: Hosted, sorted.
        expert_of: Task to expert.
        map: What the solver found, in columns of the quarry.
    """

    budgets: Budgets
    experts: tuple[str, ...]
    expert_of: Mapping[str, str]
    map: TaskMap


def quarry(table: OutcomeTable, sizes: Mapping[str, float], loads: Mapping[str, float]) -> Quarry:
    """What is known of each task and expert.

    The traffic is that of the table: each task's share of its labelled queries. Means are drawn
    towards each expert's mean over all tasks, since a few outcomes say little.

    Args:
        table: Outcomes with task labels.
        sizes: Expert to what hosting it takes.
        loads: Expert to what one request to it takes, such as active parameters or dollars.

    Raises:
        ComparisonError: No task labels, or fewer than two experts with a known footprint.
    """
    known = [name for name in table.experts if name in sizes and name in loads]
    if len(known) < 2:
        raise ComparisonError(
            "a fleet is chosen among experts whose size and load are listed; "
            f"of the table's that are {', '.join(known) or 'none'}"
        )
    left_out = tuple(name for name in table.experts if name not in known)
    table = with_experts(table, known)
    tasks = tuple(sorted({task for task in table.tasks if task is not None}))
    if not tasks:
        raise ComparisonError("a fleet is mapped by task, and no query of the table has a task")
    mean_CA, rows_CA = _task_means(table, tasks)
    quality_CA = shrunk(mean_CA, rows_CA)
    traffic_C = np.array([table.tasks.count(task) for task in tasks], dtype=np.float64)
    load_A = np.array([loads[name] for name in known])
    question = FleetQuestion(
        quality_CA,
        np.broadcast_to(load_A, quality_CA.shape).copy(),
        np.array([sizes[name] for name in known]),
        traffic_C,
    )
    return Quarry(table, tasks, question, left_out)


def design(found: Quarry, budgets: Budgets, required: Sequence[str] = ()) -> Fleet:
    """The best fleet within the budgets; see `routers.allocation.mapping.best_map`.

    Args:
        found: What it can be made of.
        budgets: What it may take.
        required: Experts to host in any case.

    Raises:
        ComparisonError: A required expert is not in the quarry.
        RoutingError: Nothing fits; the message says what would.
    """
    for name in required:
        if name not in found.experts:
            raise ComparisonError(f"{name!r} has no outcomes or no known size: it can't be hosted")
    question = replace(
        found.question,
        size_budget=budgets.size,
        cost_budget=budgets.load,
        cost_weight=budgets.load_weight,
        required=tuple(found.experts.index(name) for name in required),
    )
    best = best_map(question)
    names = [found.experts[column] for column in best.expert_C]
    hosted = tuple(found.experts[column] for column in best.deployed)
    return Fleet(budgets, hosted, dict(zip(found.tasks, names, strict=True)), best)


def _task_means(table: OutcomeTable, tasks: Sequence[str]) -> tuple[Floats, Floats]:
    label_N = np.array([-1 if task is None else tasks.index(task) for task in table.tasks])
    member_CN = (label_N[None, :] == np.arange(len(tasks))[:, None]).astype(np.float64)
    seen_NA = ~np.isnan(table.score_NA)
    rows_CA: Floats = member_CN @ seen_NA
    sum_CA = member_CN @ np.where(seen_NA, table.score_NA, 0.0)
    return np.divide(sum_CA, rows_CA, out=np.zeros_like(sum_CA), where=rows_CA > 0), rows_CA
