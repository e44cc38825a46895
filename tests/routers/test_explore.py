"""Exploration and the draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routers.explore import draw, with_exploration
from routers.records import Floats

MASSES = arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1)).filter(
    lambda masses: masses.sum() > 1e-3
)
UNIFORMS = st.floats(0, 1, exclude_max=True)


@given(MASSES, st.floats(0, 1))
def test_exploration_leaves_a_distribution_in_which_everybody_has_a_share(
    masses_A: Floats, epsilon: float
) -> None:
    mixed_A = with_exploration(masses_A / masses_A.sum(), epsilon)
    assert mixed_A.sum() == pytest.approx(1)
    assert (mixed_A >= epsilon / len(mixed_A) - 1e-12).all()


def test_experts_that_may_not_be_explored_get_no_share() -> None:
    mixed_A = with_exploration(np.array([1.0, 0, 0]), 0.2, np.array([True, True, False]))
    np.testing.assert_allclose(mixed_A, [0.9, 0.1, 0.0])


def test_everybody_is_explored_when_nobody_is_marked() -> None:
    mixed_A = with_exploration(np.array([1.0, 0.0]), 0.2, np.array([False, False]))
    np.testing.assert_allclose(mixed_A, [0.9, 0.1])


@given(MASSES, UNIFORMS)
def test_an_index_of_probability_zero_is_never_drawn(masses_A: Floats, uniform: float) -> None:
    probabilities_A = masses_A / masses_A.sum()
    assert probabilities_A[draw(probabilities_A, uniform)] > 0


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53], ids=["least", "greatest"])
def test_the_ends_of_the_unit_interval_skip_impossible_indices(uniform: float) -> None:
    assert draw(np.array([0.0, 1.0, 0.0]), uniform) == 1


@given(MASSES, st.floats(-1e-7, 1e-7))
def test_rounding_never_draws_past_the_last_expert(masses_A: Floats, off: float) -> None:
    probabilities_A = masses_A / masses_A.sum() * (1 + off)
    assert probabilities_A[draw(probabilities_A, 1 - 2**-53)] > 0


@given(MASSES)
def test_draws_are_as_frequent_as_their_propensity(masses_A: Floats) -> None:
    probabilities_A = masses_A / masses_A.sum()
    grid = (np.arange(500) + 0.5) / 500
    picked = np.bincount([draw(probabilities_A, u) for u in grid], minlength=len(probabilities_A))
    np.testing.assert_allclose(picked / 500, probabilities_A, atol=0.004)


@given(MASSES, UNIFORMS, UNIFORMS)
def test_a_greater_number_never_picks_an_earlier_index(
    masses_A: Floats, one: float, other: float
) -> None:
    probabilities_A = masses_A / masses_A.sum()
    low, high = sorted((one, other))
    assert draw(probabilities_A, low) <= draw(probabilities_A, high)


@pytest.mark.parametrize(
    "probabilities",
    [[], [0.5, 0.4], [1.5, -0.5], [float("nan"), 1.0]],
    ids=["empty", "sums to less", "negative", "nan"],
)
def test_what_is_no_distribution_is_refused(probabilities: list[float]) -> None:
    with pytest.raises(ValueError, match="distribution"):
        draw(np.array(probabilities), 0.5)
    with pytest.raises(ValueError, match="distribution"):
        with_exploration(np.array(probabilities), 0.1)


@pytest.mark.parametrize("uniform", [-0.1, 1.0, float("nan")])
def test_a_number_outside_the_unit_interval_is_refused(uniform: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        draw(np.array([1.0]), uniform)


def test_an_epsilon_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        with_exploration(np.array([1.0]), 1.1)
