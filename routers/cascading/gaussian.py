"""The expected best of several qualities that are known up to Gaussian noise."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from routers.records import Floats

DRAWS = 128
_TINY = 1e-12


def expected_max(
    mean_NK: Floats,
    covariance_KK: Floats,
    scale_NK: Floats | None = None,
    *,
    draws_RK: Floats | None = None,
) -> Floats:
    """E[max] of K jointly Gaussian variables with N different means, shape (N,).

    One variable is its mean, two are Clark's closed form, more are the mean over `draws_RK`.

    Args:
        mean_NK: Means.
        covariance_KK: Covariance that all rows share, positive semi-definite.
        scale_NK: Row n's noise is so many times that of the covariance; None: once.
        draws_RK: Standard normal draws, shape (R, K), the same for all who are compared; None
            makes 128 pairs of opposite ones.

    Source: Clark, "The Greatest of a Finite Set of Random Variables", 1961.
    """
    count = mean_NK.shape[1]
    if count == 1:
        return mean_NK[:, 0].copy()
    scale_NK = np.ones(mean_NK.shape) if scale_NK is None else scale_NK
    if count == 2:
        return _clark(mean_NK, covariance_KK, scale_NK)
    draws_RK = normal_draws(count) if draws_RK is None else draws_RK
    noise_RK = draws_RK @ _root(covariance_KK).T
    total_N = np.zeros(len(mean_NK))
    for noise_K in noise_RK:
        total_N += (mean_NK + scale_NK * noise_K).max(axis=1)
    return total_N / len(noise_RK)


def normal_draws(count: int, pairs: int = DRAWS, seed: int = 0) -> Floats:
    """Standard normal draws and their opposites, shape (2 · pairs, count)."""
    half = np.random.default_rng(seed).standard_normal((pairs, count))
    return np.concatenate([half, -half])


def _clark(mean_N2: Floats, covariance_22: Floats, scale_N2: Floats) -> Floats:
    variance_N = (
        scale_N2[:, 0] ** 2 * covariance_22[0, 0]
        + scale_N2[:, 1] ** 2 * covariance_22[1, 1]
        - 2 * scale_N2[:, 0] * scale_N2[:, 1] * covariance_22[0, 1]
    )
    spread_N = np.sqrt(np.maximum(variance_N, 0.0))
    certain_N = mean_N2.max(axis=1)
    safe_N = np.where(spread_N > _TINY, spread_N, 1.0)
    apart_N = (mean_N2[:, 0] - mean_N2[:, 1]) / safe_N
    density_N = np.exp(-0.5 * apart_N**2) / np.sqrt(2 * np.pi)
    best_N = mean_N2[:, 0] * ndtr(apart_N) + mean_N2[:, 1] * ndtr(-apart_N) + safe_N * density_N
    found_N: Floats = np.where(spread_N > _TINY, best_N, certain_N)
    return found_N


def _root(covariance_KK: Floats) -> Floats:
    """A matrix L with L Lᵀ = covariance, also where it is only semi-definite."""
    values_K, vectors_KK = np.linalg.eigh((covariance_KK + covariance_KK.T) / 2)
    root_KK: Floats = vectors_KK * np.sqrt(np.maximum(values_K, 0.0))
    return root_KK
