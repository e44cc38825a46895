"""Streams of requests whose truth is known, and a router that learns from its own answers on them.

Each request is decided on by the policies that serve; of all scores, only that of the expert that
was chosen is shown to the estimator, with the probability that it was chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routers.base import AdaptivePolicy, OnlineEstimator, Policy
from routers.candidates import PRIOR_STDERR
from routers.explore import draw, with_exploration
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import (
    Candidates,
    Estimates,
    FeatureBatch,
    Floats,
    OutcomeTable,
    Preference,
)

Indices = npt.NDArray[np.intp]

_UNKNOWN_QUALITY = 0.5
_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Swap:
    """From request `at` on, the experts of two columns have each other's competence."""

    at: int
    first: int
    second: int


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Requests in the order in which they come, with the score that every expert would get.

    Attributes:
        features: Of the requests.
        table: All scores and costs; a simulation shows a learner one per request.
        truth_NA: Expected score of each expert at that time, shape (N, A).
    """

    features: FeatureBatch
    table: OutcomeTable
    truth_NA: Floats

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: Indices) -> World:
        return World(self.features.take(rows), self.table.take(rows), self.truth_NA[rows])

    @classmethod
    def recorded(cls, features: FeatureBatch, table: OutcomeTable) -> World:
        """Real outcomes as a world: what was scored is what is true."""
        return cls(features, table, table.score_NA)


def make_world(
    rows: int,
    experts: int,
    tasks: int,
    *,
    seed: int,
    noise: float = 0.5,
    drift: Sequence[Swap] = (),
) -> World:
    """Requests of several tasks, at each of which every expert is right with its own probability.

    Args:
        rows: Requests.
        experts: Columns.
        tasks: Clusters of vectors; the task is on the table as a label too.
        seed: Source of all randomness.
        noise: Length of what is random in a vector, when its task's centre has length 1; >= 0.
        drift: What changes on the way, in order of time.
    """
    rng = np.random.default_rng(seed)
    centre_KD = _unit(rng.normal(size=(tasks, _WIDTH)))
    skill_KA = rng.uniform(0.2, 0.9, size=(tasks, experts))
    task_N = rng.integers(tasks, size=rows)
    scatter_ND = noise / np.sqrt(_WIDTH) * rng.normal(size=(rows, _WIDTH))
    truth_NA = skill_KA[task_N]
    for swap in drift:
        both = [swap.first, swap.second]
        truth_NA[swap.at :, both] = truth_NA[swap.at :, both[::-1]]
    names = [f"task-{task}" for task in task_N]
    return _world(_unit(centre_KD[task_N] + scatter_ND), truth_NA, names, rng)


def make_linear_world(rows: int, experts: int, width: int, *, seed: int) -> World:
    """Expected scores that are linear in the vector, all within [0.1, 0.9]."""
    rng = np.random.default_rng(seed)
    vectors_ND = _unit(rng.normal(size=(rows, width)))
    truth_NA = 0.5 + 0.4 * vectors_ND @ _unit(rng.normal(size=(experts, width))).T
    return _world(vectors_ND, truth_NA, [None] * rows, rng)


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What came of a stream, request by request.

    Attributes:
        chosen_N: Column of the expert that answered.
        propensity_N: The probability that it was chosen by.
        score_N: The score it got; NaN where none is recorded.
        value_N: The score it could expect.
        regret_N: What the best expert could expect more.
        estimator: As it was after the last request.
    """

    chosen_N: Indices
    propensity_N: Floats
    score_N: Floats
    value_N: Floats
    regret_N: Floats
    estimator: OnlineEstimator


def play(
    estimator: OnlineEstimator,
    world: World,
    *,
    seed: int,
    policy: Policy | None = None,
    preference: Preference | None = None,
    epsilon: float = 0.0,
    batch: int = 1,
    learn: bool = True,
) -> Played:
    """Decide on each request, reveal one score, learn from it.

    Args:
        estimator: Fitted on the same experts.
        world: What comes.
        seed: Source of all randomness.
        policy: What decides; None is greedy.
        preference: What it weighs; None counts quality alone. The cost that it expects of an
            expert is the mean over the world; an adaptive policy is told what was paid.
        epsilon: Share of the traffic that explores, in [0, 1].
        batch: Requests between two times of learning, >= 1.
        learn: Whether it learns at all; a frozen router doesn't.
    """
    rng = np.random.default_rng(seed)
    policy, preference = policy or GreedyUtilityPolicy(), preference or Preference()
    uniform_N = rng.random(len(world))
    chosen_N, propensity_N = np.zeros(len(world), dtype=np.intp), np.zeros(len(world))
    cost_A = _mean_costs(world.table)
    for start in range(0, len(world), batch):
        rows = np.arange(start, min(start + batch, len(world)))
        features = world.features.take(rows)
        estimates = estimator.predict(features)
        for place, row in enumerate(rows):
            candidates = _candidates(estimates, place, cost_A)
            share_A = policy.distribution(candidates, preference)[0]
            share_A = with_exploration(share_A, epsilon)
            chosen_N[row] = draw(share_A, float(uniform_N[row]))
            propensity_N[row] = share_A[chosen_N[row]]
            if isinstance(policy, AdaptivePolicy):
                policy.observe(_paid(world.table, int(row), int(chosen_N[row]), cost_A))
        shown = revealed(world.table.take(rows), chosen_N[rows], propensity_N[rows])
        if learn and not np.isnan(shown.score_NA).all():
            estimator = estimator.partial_fit(features, shown, rng)
    return _played(world, chosen_N, propensity_N, estimator)


def revealed(table: OutcomeTable, chosen_N: Indices, propensity_N: Floats) -> OutcomeTable:
    """What a log holds of `table` when one expert answered each request.

    Args:
        table: All outcomes.
        chosen_N: Column of the expert that answered, shape (N,).
        propensity_N: The probability that it was chosen by, shape (N,), in (0, 1].
    """
    hidden_NA = np.ones(table.score_NA.shape, dtype=bool)
    hidden_NA[np.arange(len(table)), chosen_N] = False
    return replace(
        table,
        score_NA=np.where(hidden_NA, np.nan, table.score_NA),
        prompt_tokens_NA=np.where(hidden_NA, np.nan, table.prompt_tokens_NA),
        output_tokens_NA=np.where(hidden_NA, np.nan, table.output_tokens_NA),
        cost_usd_NA=np.where(hidden_NA, np.nan, table.cost_usd_NA),
        latency_s_NA=np.where(hidden_NA, np.nan, table.latency_s_NA),
        propensity_NA=np.where(hidden_NA, 1.0, propensity_N[:, None]),
    )


def _played(
    world: World, chosen_N: Indices, propensity_N: Floats, estimator: OnlineEstimator
) -> Played:
    every = np.arange(len(world))
    value_N = world.truth_NA[every, chosen_N]
    best_N = np.nanmax(world.truth_NA, axis=1)
    score_N = world.table.score_NA[every, chosen_N]
    return Played(chosen_N, propensity_N, score_N, value_N, best_N - value_N, estimator)


def _candidates(estimates: Estimates, row: int, cost_A: Floats) -> Candidates:
    quality_A, stderr_A = estimates.quality_NA[row], estimates.stderr_NA[row]
    unknown_A = np.isnan(quality_A)
    return Candidates(
        experts=estimates.experts,
        quality_A=np.where(unknown_A, _UNKNOWN_QUALITY, quality_A),
        stderr_A=np.where(unknown_A | np.isnan(stderr_A), PRIOR_STDERR, stderr_A),
        cost_usd_A=cost_A,
        latency_s_A=estimates.latency_s_NA[row],
        output_tokens_A=estimates.output_tokens_NA[row],
        penalty_A=np.zeros(len(quality_A)),
        cost_scale_usd=max(cost_A.tolist()) if (cost_A > 0).all() else 1.0,
        latency_scale_s=1.0,
    )


def _mean_costs(table: OutcomeTable) -> Floats:
    known_NA = ~np.isnan(table.cost_usd_NA)
    total_A = np.where(known_NA, table.cost_usd_NA, 0.0).sum(axis=0)
    mean_A: Floats = np.full(len(table.experts), np.nan)
    np.divide(total_A, known_NA.sum(axis=0), out=mean_A, where=known_NA.any(axis=0))
    return mean_A


def _paid(table: OutcomeTable, row: int, column: int, cost_A: Floats) -> float:
    cost = float(table.cost_usd_NA[row, column])
    return cost if cost == cost else float(np.nan_to_num(cost_A[column]))


def _world(
    vectors_ND: Floats, truth_NA: Floats, tasks: Sequence[str | None], rng: np.random.Generator
) -> World:
    count, experts = truth_NA.shape
    ids = tuple(f"q{row:06d}" for row in range(count))
    features = FeatureBatch(ids, vectors_ND.astype(np.float32), np.full(count, 50.0))
    score_NA = (rng.random(truth_NA.shape) < truth_NA).astype(np.float64)
    unknown_NA = np.full_like(score_NA, np.nan)
    table = OutcomeTable(
        query_ids=ids,
        prompts=ids,
        tasks=tuple(tasks),
        groups=ids,
        experts=tuple(f"e{column:02d}" for column in range(experts)),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA),
    )
    return World(features, table, truth_NA)


def _unit(vectors_ND: Floats) -> Floats:
    unit_ND: Floats = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return unit_ND
