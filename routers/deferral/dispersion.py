"""How sure a distribution over answers is of itself: Mowst's confidence, and gates made of it.

The distribution is the first token's over the choices, or the shares of the clusters that samples
of one question fall into.
"""

from __future__ import annotations

import numpy as np

from routers.records import Floats

_TOLERANCE = 1e-6


def variance_confidence(chance_NK: Floats, power: float = 1.0) -> Floats:
    r"""Spread of a distribution over K >= 2 answers against that of a certain one, to a power.

    .. math:: C(p) = \left( \frac{\mathrm{var}(p)}{\mathrm{var}(\text{one-hot})} \right)^{a}

    Args:
        chance_NK: Rows that sum to 1, shape (N, K).
        power: a > 0; above 1 trusts only sharp distributions.

    Returns:
        1 for a certain answer, 0 for a uniform distribution, shape (N,).

    Raises:
        ValueError: The rows are no distributions over two or more answers.

    Source: Zeng et al., "Mixture of Weak & Strong Experts on Graphs" (Mowst), 2024.
    """
    _check(chance_NK, power)
    count = chance_NK.shape[1]
    certain = (1 - 1 / count) / count
    confidence_N: Floats = np.clip(chance_NK.var(axis=1) / certain, 0.0, 1.0) ** power
    return confidence_N


def entropy_confidence(chance_NK: Floats, power: float = 1.0) -> Floats:
    """The same by entropy: (1 - H(p) / log K) ** power."""
    _check(chance_NK, power)
    safe_NK = np.where(chance_NK > 0, chance_NK, 1.0)
    entropy_N = -(chance_NK * np.log(safe_NK)).sum(axis=1)
    share_N = entropy_N / np.log(chance_NK.shape[1])
    confidence_N: Floats = np.clip(1 - share_N, 0.0, 1.0) ** power
    return confidence_N


def gated_quality(confidence_N: Floats, weak_N: Floats, strong_N: Floats) -> float:
    """Expected quality where the weak expert answers with probability C: mean C·w + (1 − C)·s.

    Args:
        confidence_N: In [0, 1]; it is also the logged propensity of keeping the draft.
        weak_N: Score of the weak expert, in [0, 1].
        strong_N: Score of the strong one.
    """
    return float((confidence_N * weak_N + (1 - confidence_N) * strong_N).mean())


def _check(chance_NK: Floats, power: float) -> None:
    if chance_NK.ndim != 2 or chance_NK.shape[1] < 2:
        raise ValueError(f"needs rows over two or more answers, got shape {chance_NK.shape}")
    whole_N = chance_NK.sum(axis=1)
    if (chance_NK < 0).any() or (np.abs(whole_N - 1) > _TOLERANCE).any():
        raise ValueError("every row must be probabilities that sum to 1")
    if not power > 0:
        raise ValueError(f"power must be > 0, got {power!r}")
