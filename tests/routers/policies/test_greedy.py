"""The greedy policy, its utility and its presets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.policies.greedy import PRESETS, GreedyUtilityPolicy, good_enough, utilities
from routers.records import Candidates, Preference

NAN = float("nan")


def candidates(
    quality: list[float],
    cost: list[float] | None = None,
    latency: list[float] | None = None,
    penalty: list[float] | None = None,
) -> Candidates:
    count = len(quality)
    unknown = [NAN] * count
    return Candidates(
        experts=tuple("abcdefgh"[:count]),
        quality_A=np.array(quality),
        stderr_A=np.full(count, 0.05),
        cost_usd_A=np.array(cost or [0.0] * count),
        latency_s_A=np.array(latency or unknown),
        output_tokens_A=np.array(unknown),
        penalty_A=np.array(penalty or [0.0] * count),
        cost_scale_usd=0.01,
        latency_scale_s=2.0,
    )


def chosen(pool: Candidates, **preference: float) -> str:
    probabilities_A, _ = GreedyUtilityPolicy().distribution(pool, Preference(**preference))  # type: ignore[arg-type]
    assert sorted(probabilities_A)[-1] == 1.0
    return pool.experts[int(probabilities_A.argmax())]


def test_without_a_cost_weight_the_best_is_chosen_whatever_it_costs() -> None:
    assert chosen(candidates([0.8, 0.81], cost=[0.0, 1000.0])) == "b"


def test_a_cost_weight_of_one_gives_a_whole_point_of_quality_for_the_dearest_call() -> None:
    pool = candidates([0.5, 0.9], cost=[0.0, 0.01])
    assert chosen(pool, cost_weight=0.39) == "b"
    assert chosen(pool, cost_weight=0.41) == "a"


def test_latency_and_penalties_are_weighed_in_quality_points() -> None:
    pool = candidates([0.5, 0.9], latency=[0.0, 2.0])
    assert chosen(pool, latency_weight=0.39) == "b"
    assert chosen(pool, latency_weight=0.41) == "a"
    assert chosen(candidates([0.5, 0.9], penalty=[0.0, 0.5])) == "a"


def test_an_unknown_cost_counts_as_the_dearest() -> None:
    pool = candidates([0.7, 0.7, 0.7], cost=[0.005, NAN, 0.009])
    utility_A = utilities(pool, Preference(cost_weight=1.0))
    assert utility_A[1] == utility_A[2] < utility_A[0]


def test_an_unknown_cost_is_not_free_where_all_others_are() -> None:
    assert chosen(candidates([0.8, 0.7], cost=[NAN, 0.0]), cost_weight=0.2) == "b"


def test_an_unknown_latency_counts_as_the_slowest() -> None:
    pool = candidates([0.7, 0.7, 0.7], latency=[1.0, NAN, 3.0])
    utility_A = utilities(pool, Preference(latency_weight=1.0))
    assert utility_A[1] == utility_A[2] < utility_A[0]


def test_latencies_that_nobody_knows_change_nothing() -> None:
    pool = candidates([0.7, 0.6])
    np.testing.assert_array_equal(utilities(pool, Preference(latency_weight=1.0)), pool.quality_A)


def test_whoever_misses_the_least_quality_is_left_out_while_another_reaches_it() -> None:
    pool = candidates([0.5, 0.9], cost=[0.0, 0.01])
    assert chosen(pool, cost_weight=1.0) == "a"
    assert chosen(pool, cost_weight=1.0, min_quality=0.6) == "b"
    assert chosen(pool, cost_weight=1.0, min_quality=0.95) == "a"
    assert good_enough(pool, Preference(min_quality=0.6)).tolist() == [False, True]
    assert good_enough(pool, Preference(min_quality=0.95)).tolist() == [True, True]


def test_equal_utilities_go_to_the_cheaper_then_to_the_first_id() -> None:
    assert chosen(candidates([0.7, 0.7, 0.7], cost=[0.02, 0.01, 0.01])) == "b"


QUALITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(QUALITIES, st.data(), st.floats(0, 5), st.floats(0, 5))
def test_a_higher_cost_weight_never_chooses_a_dearer_expert(
    quality: list[float], data: st.DataObject, one: float, other: float
) -> None:
    costs = st.lists(st.floats(0, 0.05), min_size=len(quality), max_size=len(quality))
    pool = candidates(quality, cost=data.draw(costs))
    low, high = sorted((one, other))
    cost = dict(zip(pool.experts, pool.cost_usd_A, strict=True))
    at_low, at_high = chosen(pool, cost_weight=low), chosen(pool, cost_weight=high)
    # Weights that differ by less than rounding does may tie-break either way.
    assert cost[at_high] <= cost[at_low] or high - low < 1e-6


@given(QUALITIES, st.floats(0.1, 3))
def test_raising_every_quality_alike_changes_no_choice(quality: list[float], weight: float) -> None:
    pool = candidates(
        [round(q / 2, 3) for q in quality], cost=[0.001 * i for i in range(len(quality))]
    )
    raised = replace(pool, quality_A=pool.quality_A + 0.25)
    assert chosen(pool, cost_weight=weight) == chosen(raised, cost_weight=weight)


def test_the_presets_order_cost_from_cheap_to_best() -> None:
    weights = [PRESETS[name].cost_weight for name in ("cheap", "balanced", "best")]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == 0


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_asks_for_nothing_but_quality_and_cost(name: str) -> None:
    assert PRESETS[name] == Preference(cost_weight=PRESETS[name].cost_weight)


FEW_VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@given(st.lists(st.tuples(FEW_VALUES, FEW_VALUES, FEW_VALUES), min_size=1, max_size=8), FEW_VALUES)
def test_no_other_expert_that_is_good_enough_is_better_or_as_good_and_cheaper(
    values: list[tuple[float, float, float]], min_quality: float
) -> None:
    quality, cost, penalty = (list(column) for column in zip(*values, strict=True))
    pool = candidates(quality, cost=cost, penalty=penalty)
    preference = Preference(cost_weight=0.005, min_quality=min_quality)
    probabilities_A, utility_A = GreedyUtilityPolicy().distribution(pool, preference)
    np.testing.assert_array_equal(utility_A, utilities(pool, preference))
    able = np.flatnonzero(good_enough(pool, preference)).tolist()
    best = min(able, key=lambda i: (-utility_A[i], pool.cost_usd_A[i], i))
    assert probabilities_A.argmax() == best
