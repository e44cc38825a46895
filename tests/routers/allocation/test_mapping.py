"""Fleets under a budget: as good as trying them all, and better with more money."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from routers.allocation.mapping import FleetQuestion, Program, TaskMap, best_map, greedy_map, shrunk
from routers.errors import RoutingError

NAN = float("nan")


def a_question(
    seed: int,
    tasks: int = 6,
    experts: int = 5,
    size_budget: float | None = None,
    cost_budget: float | None = None,
    cost_weight: float = 0.0,
) -> FleetQuestion:
    """Larger experts are better on the whole and dearer, each with its own strengths."""
    chance = np.random.default_rng(seed)
    size_A = chance.uniform(1, 10, experts)
    quality_CA = np.clip(0.3 + 0.04 * size_A + chance.normal(0, 0.15, (tasks, experts)), 0, 1)
    cost_CA = size_A * chance.uniform(0.5, 1.5, (tasks, experts))
    traffic_C = chance.uniform(0.1, 1, tasks)
    return FleetQuestion(
        quality_CA, cost_CA, size_A, traffic_C, cost_weight, size_budget, cost_budget, (0,)
    )


def best_of_all(question: FleetQuestion) -> float:
    """The objective of the best fleet, by trying every one with every map."""
    tasks, experts = question.quality_CA.shape
    best = -np.inf
    for count in range(1, experts + 1):
        for fleet in combinations(range(experts), count):
            if not set(question.required) <= set(fleet):
                continue
            if question.size_A[list(fleet)].sum() > (question.size_budget or np.inf):
                continue
            maps = np.stack(np.meshgrid(*[fleet] * tasks, indexing="ij"), -1).reshape(-1, tasks)
            rows = np.arange(tasks)
            cost_M = question.cost_CA[rows, maps] @ question.share_C
            value_M = question.quality_CA[rows, maps] @ question.share_C
            fits_M = cost_M <= (question.cost_budget or np.inf)
            objective_M = value_M - question.cost_weight * cost_M
            best = max(best, objective_M[fits_M].max(initial=-np.inf))
    return float(best)


def spent(question: FleetQuestion, found: TaskMap) -> None:
    """It spends what it says, within the budgets, on deployed experts only."""
    assert set(found.expert_C.tolist()) <= set(found.deployed)
    assert set(question.required) <= set(found.deployed)
    assert found.size == pytest.approx(question.size_A[list(found.deployed)].sum())
    assert found.size <= (question.size_budget or np.inf) + 1e-6
    assert found.cost <= (question.cost_budget or np.inf) + 1e-6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("size_budget", "cost_budget", "cost_weight"),
    [(None, None, 0.0), (14.0, None, 0.0), (None, 4.0, 0.0), (18.0, 5.0, 0.01)],
    ids=["unbounded", "size", "cost", "both"],
)
def test_it_is_the_best_of_all_fleets(
    seed: int, size_budget: float | None, cost_budget: float | None, cost_weight: float
) -> None:
    question = a_question(seed, 6, 5, size_budget, cost_budget, cost_weight)
    truth = best_of_all(question)
    if truth == -np.inf:
        with pytest.raises(RoutingError, match=r"no fleet fits the (size|cost) budget"):
            best_map(question)
        return
    found = best_map(question, gap=0.0)
    spent(question, found)
    assert found.objective == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_what_the_relaxation_prices_out_is_in_no_better_map(seed: int) -> None:
    question = a_question(seed, 6, 5, 18.0, 5.5, 0.01)
    program = Program(question, float("inf"))
    truth = best_of_all(question)
    narrowed = program.narrowed(truth)
    assert narrowed.open < program.open
    found = program.map_of(narrowed.solved(whole=np.full(len(program.gains), True), gap=0.0).x)
    assert found.objective == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_more_budget_is_never_worse(seed: int) -> None:
    question = a_question(seed, 8, 7)
    roomy = [replace(question, size_budget=size) for size in (11, 15, 20, 30, 60)]
    rich = [replace(question, cost_budget=cost) for cost in (5.0, 6.0, 7.0, 9.0, 15.0)]
    for growing in (roomy, rich):
        objectives = [best_map(one, gap=0.0).objective for one in growing]
        assert (np.diff(objectives) >= -1e-6).all()
        assert objectives[-1] > objectives[0] + 0.01


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_feasible_and_never_above_the_best_nor_far_below(seed: int) -> None:
    for budgets in ({"size_budget": 20.0}, {"size_budget": 25.0, "cost_budget": 6.0}):
        question = a_question(seed, 12, 8, **budgets)
        greedy, best = greedy_map(question), best_map(question, gap=0.0)
        spent(question, greedy)
        assert best.objective * 0.85 <= greedy.objective <= best.objective + 1e-6


def test_without_a_budget_each_task_goes_to_its_best_expert() -> None:
    question = a_question(3)
    for found in (best_map(question), greedy_map(question)):
        np.testing.assert_array_equal(found.expert_C, question.quality_CA.argmax(axis=1))


def test_an_expert_that_must_not_answer_a_task_does_not() -> None:
    question = a_question(3)
    quality_CA = question.quality_CA.copy()
    quality_CA[0, quality_CA[0].argmax()] = NAN
    question = replace(question, quality_CA=quality_CA)
    for found in (best_map(question), greedy_map(question)):
        assert found.expert_C[0] == np.nanargmax(quality_CA[0])


def test_a_budget_that_nothing_fits_is_named_with_what_it_would_take() -> None:
    question = a_question(1)
    needed = question.size_A[0]
    for solve in (best_map, greedy_map):
        with pytest.raises(RoutingError, match=f"size budget of 0.5.* take {needed:g}"):
            solve(replace(question, size_budget=0.5))
        with pytest.raises(RoutingError, match=r"fits the cost budget of 0\.01: the cheapest"):
            solve(replace(question, cost_budget=0.01))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"size_A": np.ones(4)}, r"size_A has shape \(4,\), it must be \(5,\)"),
        ({"cost_CA": np.full((6, 5), NAN)}, "cost_CA has a value that is no number >= 0"),
        ({"traffic_C": np.zeros(6)}, "traffic_C sums to 0"),
        ({"quality_CA": np.full((6, 5), NAN)}, "no expert is known to answer task 0"),
        ({"required": (7,)}, r"required expert 7 is not in 0 \.\. 4"),
    ],
)
def test_a_malformed_question_is_refused(change: dict[str, object], fault: str) -> None:
    with pytest.raises(RoutingError, match=fault):
        replace(a_question(0), **change)  # type: ignore[arg-type]


def test_means_of_few_outcomes_are_drawn_to_the_experts_own() -> None:
    mean_CA = np.array([[1.0, 0.5, NAN], [0.5, 0.5, NAN]])
    rows_CA = np.array([[1.0, 10.0, 0.0], [99.0, 10.0, 0.0]])
    found_CA = shrunk(mean_CA, rows_CA, strength=20.0)
    np.testing.assert_allclose(found_CA[0, 0], (1 + 20 * 0.505) / 21)
    np.testing.assert_allclose(found_CA[:, 1], 0.5)
    assert np.isnan(found_CA[:, 2]).all()
