"""E[max] of Gaussians: Clark's closed form, and draws where there are more than two."""

from __future__ import annotations

import numpy as np
import pytest

from routers.cascading.gaussian import expected_max, normal_draws


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("apart", [0.0, 0.3, 2.0])
def test_two_are_clarks_closed_form(correlation: float, apart: float) -> None:
    spread = np.array([0.4, 0.7])
    covariance = np.outer(spread, spread) * np.array([[1, correlation], [correlation, 1]])
    mean = np.array([0.2, 0.2 + apart])
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal(mean, covariance, size=400_000).max(axis=1)
    error = drawn.std() / np.sqrt(len(drawn))
    assert expected_max(mean[None], covariance)[0] == pytest.approx(drawn.mean(), abs=4 * error)


def test_draws_agree_with_the_closed_form() -> None:
    """A third variable that never wins changes nothing."""
    covariance = np.array([[0.09, 0.03, 0.0], [0.03, 0.25, 0.0], [0.0, 0.0, 0.01]])
    mean_N3 = np.array([[0.5, 0.4, -9.0], [0.2, 0.9, -9.0]])
    exact = expected_max(mean_N3[:, :2], covariance[:2, :2])
    drawn = expected_max(mean_N3, covariance, draws_RK=normal_draws(3, pairs=4000))
    assert drawn == pytest.approx(exact, abs=0.01)


def test_without_noise_it_is_the_best_mean() -> None:
    mean_N2 = np.array([[0.3, 0.8], [0.9, 0.1]])
    assert expected_max(mean_N2, np.zeros((2, 2))) == pytest.approx([0.8, 0.9])
    certain = expected_max(mean_N2, np.eye(2), np.zeros((2, 2)))
    assert certain == pytest.approx([0.8, 0.9])
    assert expected_max(mean_N2[:, :1], np.eye(1)) == pytest.approx([0.3, 0.9])


def test_each_row_may_have_noise_of_its_own_size() -> None:
    mean_N2 = np.array([[0.5, 0.5], [0.5, 0.5]])
    scale_N2 = np.array([[1.0, 1.0], [0.5, 0.5]])
    # Two equal ones with independent noise s each: s / √π.
    assert expected_max(mean_N2, np.eye(2), scale_N2) == pytest.approx(
        0.5 + scale_N2[:, 0] / np.sqrt(np.pi)
    )
