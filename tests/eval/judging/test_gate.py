"""The gate finds what each kind of prompt cares about, and looks at the prompt alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from eval.errors import ComparisonError
from eval.judging.gate import ObjectiveGate, Preferences
from routers.records import Floats

WEIGHT_CK = np.array([[0.85, 0.1, 0.05], [0.05, 0.85, 0.1], [0.1, 0.05, 0.85]])
"""What each of three categories cares about."""


class World(NamedTuple):
    pairs: Preferences
    kind_N: np.ndarray


def world(seed: int, count: int) -> World:
    rng = np.random.default_rng(seed)
    kind_N = rng.integers(0, 3, count)
    prompt_ND = np.eye(3, 8)[kind_N] + 0.15 * rng.normal(size=(count, 8))
    first_NK, second_NK = rng.uniform(size=(2, count, 3))
    better_N = ((first_NK - second_NK) * WEIGHT_CK[kind_N]).sum(axis=1) > 0
    chosen_NK = np.where(better_N[:, None], first_NK, second_NK)
    rejected_NK = np.where(better_N[:, None], second_NK, first_NK)
    return World(Preferences(prompt_ND, chosen_NK, rejected_NK), kind_N)


@pytest.fixture(scope="module")
def gate() -> ObjectiveGate:
    return ObjectiveGate.fit(world(1, 1500).pairs, np.random.default_rng(0))


def accuracy(score_chosen_N: Floats, score_rejected_N: Floats) -> float:
    return float((score_chosen_N > score_rejected_N).mean())


def test_it_recovers_what_each_category_cares_about(gate: ObjectiveGate) -> None:
    pairs, kind_N = world(2, 1000)
    prompt_ND = pairs.prompt_ND
    right = accuracy(
        gate.score(prompt_ND, pairs.chosen_NK), gate.score(prompt_ND, pairs.rejected_NK)
    )
    equal = accuracy(pairs.chosen_NK.mean(axis=1), pairs.rejected_NK.mean(axis=1))
    assert right > 0.9
    assert right > equal + 0.1
    found_CK = np.stack([gate.weights(prompt_ND[kind_N == kind]).mean(axis=0) for kind in range(3)])
    np.testing.assert_allclose(found_CK, WEIGHT_CK, atol=0.12)


def test_weights_sum_to_one_and_depend_on_the_prompt_only(gate: ObjectiveGate) -> None:
    pairs, _ = world(3, 50)
    weight_NK = gate.weights(pairs.prompt_ND)
    assert (weight_NK >= 0).all()
    np.testing.assert_allclose(weight_NK.sum(axis=1), 1.0)
    by_one_NK = np.stack(
        [gate.score(pairs.prompt_ND, np.tile(row, (50, 1))) for row in np.eye(3)], axis=1
    )
    np.testing.assert_allclose(by_one_NK, weight_NK)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    one = np.ones((3, 2))
    with pytest.raises(ComparisonError, match="one row of each"):
        ObjectiveGate.fit(
            Preferences(one, np.ones((2, 2)), np.ones((2, 2))), np.random.default_rng(0)
        )
    with pytest.raises(ComparisonError, match="numbers"):
        ObjectiveGate.fit(Preferences(one, one * np.nan, one), np.random.default_rng(0))
