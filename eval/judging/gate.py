"""One score of many: a gate on the prompt says how much each objective counts.

After ArmoRM (arXiv 2406.12845), whose gate of three hidden layers of 1024 is one of 64 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from eval.errors import ComparisonError
from routers.records import Floats

_HIDDEN = 64
_PENALTY = 1e-4


class Preferences(NamedTuple):
    """Pairs of answers to the same prompt, one of which was preferred.

    Attributes:
        prompt_ND: The prompt's vector.
        chosen_NK: The preferred answer by each objective, free of length (`debiased`).
        rejected_NK: The other one.
    """

    prompt_ND: Floats
    chosen_NK: Floats
    rejected_NK: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ObjectiveGate:
    """Weights of objectives from the prompt alone: softmax(W₂ tanh(W₁x + b₁) + b₂).

    Attributes:
        hidden_DH, bias_H: First layer.
        out_HK, bias_K: Second layer.
        scale: How sure a difference of one makes; it changes no order.
    """

    hidden_DH: Floats
    bias_H: Floats
    out_HK: Floats
    bias_K: Floats
    scale: float

    @classmethod
    def fit(cls, pairs: Preferences, rng: np.random.Generator, steps: int = 200) -> ObjectiveGate:
        """Fit by the cross-entropy of `scale · w(x)·(chosen − rejected)` against 1.

        Args:
            pairs: What was preferred; N, D and K >= 1.
            rng: Where the weights begin.
            steps: Most steps of L-BFGS.

        Raises:
            ComparisonError: Arrays that don't belong together.
        """
        prompt_ND = np.asarray(pairs.prompt_ND, float)
        gain_NK = np.asarray(pairs.chosen_NK, float) - np.asarray(pairs.rejected_NK, float)
        if prompt_ND.ndim != 2 or gain_NK.ndim != 2 or len(prompt_ND) != len(gain_NK):
            raise ComparisonError("preferences need one row of each array per pair")
        if not len(prompt_ND) or not (np.isfinite(prompt_ND).all() and np.isfinite(gain_NK).all()):
            raise ComparisonError("preferences need pairs, and vectors and scores that are numbers")
        shape = _Shape(prompt_ND.shape[1], gain_NK.shape[1])
        start = rng.normal(0.0, shape.inputs**-0.5, shape.size)
        start[-1] = np.log(4.0)
        found = minimize(
            _loss, start, (shape, prompt_ND, gain_NK), "L-BFGS-B", jac=True,
            options={"maxiter": steps},
        )  # fmt: skip
        hidden_DH, bias_H, out_HK, bias_K, log_scale = shape.parts(found.x)
        return cls(hidden_DH, bias_H, out_HK, bias_K, float(np.exp(log_scale)))

    def weights(self, prompt_ND: Floats) -> Floats:
        """How much each objective counts, shape (N, K): >= 0, and rows sum to 1."""
        hidden_NH = np.tanh(prompt_ND @ self.hidden_DH + self.bias_H)
        return np.asarray(softmax(hidden_NH @ self.out_HK + self.bias_K, axis=1), float)

    def score(self, prompt_ND: Floats, score_NK: Floats) -> Floats:
        """One score per answer, length N: within the range of its objectives'."""
        return np.asarray((self.weights(prompt_ND) * score_NK).sum(axis=1), float)


class _Shape(NamedTuple):
    inputs: int
    objectives: int

    @property
    def size(self) -> int:
        return (self.inputs + 1) * _HIDDEN + (_HIDDEN + 1) * self.objectives + 1

    def parts(self, flat: Floats) -> tuple[Floats, Floats, Floats, Floats, float]:
        inputs, objectives = self
        at = np.cumsum([inputs * _HIDDEN, _HIDDEN, _HIDDEN * objectives, objectives])
        hidden, bias_H, out, bias_K, scale = np.split(flat, at)
        return (
            hidden.reshape(inputs, _HIDDEN),
            bias_H,
            out.reshape(_HIDDEN, objectives),
            bias_K,
            float(scale[0]),
        )


def _loss(flat: Floats, shape: _Shape, prompt_ND: Floats, gain_NK: Floats) -> tuple[float, Floats]:
    """Mean cross-entropy and its gradient."""
    hidden_DH, bias_H, out_HK, bias_K, log_scale = shape.parts(flat)
    hidden_NH = np.tanh(prompt_ND @ hidden_DH + bias_H)
    weight_NK = softmax(hidden_NH @ out_HK + bias_K, axis=1)
    gain_N, scale = (weight_NK * gain_NK).sum(axis=1), np.exp(log_scale)
    loss = float(np.logaddexp(0.0, -scale * gain_N).mean()) + _PENALTY * float(flat @ flat)
    slope_N = -expit(-scale * gain_N) * scale / len(gain_N)
    logit_NK = slope_N[:, None] * weight_NK * (gain_NK - gain_N[:, None])
    before_NH = (logit_NK @ out_HK.T) * (1.0 - hidden_NH**2)
    gradient = np.concatenate(
        [
            (prompt_ND.T @ before_NH).ravel(),
            before_NH.sum(axis=0),
            (hidden_NH.T @ logit_NK).ravel(),
            logit_NK.sum(axis=0),
            [float(slope_N @ gain_N)],
        ]
    )
    return loss, gradient + 2.0 * _PENALTY * flat
