"""Linear regressions, one per expert, as sums that rows are added to and that fade."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from routers.records import Floats

_BLOCK = 1024
# What is known of the noise before any row: the variance of a fair coin, worth two rows.
_NOISE_ROWS, _NOISE = 2.0, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class LinearSums:
    r"""What a Bayesian linear regression needs to know of its rows.

    With :math:`v_i = \gamma^{age_i} w_i`, per expert:

    Attributes:
        gram_APP: Σ v x xᵀ.
        moment_AP: Σ v x y.
        square_A: Σ v y².
        mass_A: Σ v.
        heft_A: Σ v w.
    """

    gram_APP: Floats
    moment_AP: Floats
    square_A: Floats
    mass_A: Floats
    heft_A: Floats

    @classmethod
    def empty(cls, experts: int, width: int) -> Self:
        zero_A = np.zeros(experts)
        gram_APP, moment_AP = np.zeros((experts, width, width)), np.zeros((experts, width))
        return cls(gram_APP, moment_AP, zero_A, zero_A, zero_A)

    def add(self, rows_NP: Floats, score_NA: Floats, weight_NA: Floats, keep: float) -> Self:
        """These sums with rows added in their order; each row fades all before it by `keep`.

        Args:
            rows_NP: x, oldest first.
            score_NA: y, in [0, 1]; any number where the weight is 0.
            weight_NA: w >= 0; 0 where an expert was not observed.
            keep: How much of them a row leaves, in (0, 1]; 1 forgets nothing.
        """
        faded_N1 = keep ** np.arange(len(rows_NP) - 1, -1, -1.0)[:, None]
        v_NA = faded_N1 * weight_NA
        # Old rows fade for every expert: of one that isn't asked, less and less is known.
        kept = keep ** len(rows_NP)
        gram_APP, moment_AP = kept * self.gram_APP, kept * self.moment_AP
        for expert in np.flatnonzero(v_NA.any(axis=0)):
            seen = np.flatnonzero(v_NA[:, expert])
            weighed_NP = v_NA[seen, expert, None] * rows_NP[seen]
            gram_APP[expert] += weighed_NP.T @ rows_NP[seen]
            moment_AP[expert] += weighed_NP.T @ score_NA[seen, expert]
        return type(self)(
            gram_APP,
            moment_AP,
            kept * self.square_A + (v_NA * score_NA**2).sum(axis=0),
            kept * self.mass_A + v_NA.sum(axis=0),
            kept * self.heft_A + (v_NA * weight_NA).sum(axis=0),
        )

    @property
    def worth_A(self) -> Floats:  # noqa: N802 - carries its axis
        """What a unit of `mass_A` counts as, in rows of weight 1.

        A row of weight 10 shifts the mean like ten rows, but tells no more than one: after Kish,
        rows of weights w tell as much as (Σw)² / Σw² even ones.
        """
        one_A = np.ones_like(self.mass_A)
        return np.divide(self.mass_A, self.heft_A, out=one_A, where=self.heft_A > 0)

    def posterior(self, prior_P: Floats, precision_P: Floats) -> LinearPosterior:
        """The regressions under the prior N(prior, noise · diag(precision)⁻¹)."""
        worth_A = self.worth_A
        precision_APP = worth_A[:, None, None] * self.gram_APP + np.diag(precision_P)
        moment_AP = worth_A[:, None] * self.moment_AP + precision_P * prior_P
        inverse_APP = np.linalg.inv(np.linalg.cholesky(precision_APP))
        slope_AP = np.einsum(
            "aqp,aq->ap", inverse_APP, np.einsum("aqp,ap->aq", inverse_APP, moment_AP)
        )
        fit_A = np.einsum("ap,apq,aq->a", slope_AP, self.gram_APP, slope_AP)
        error_A = self.square_A - 2 * (slope_AP * self.moment_AP).sum(axis=1) + fit_A
        rows_A = worth_A * self.mass_A
        squared_A = worth_A * np.maximum(error_A, 0.0) + _NOISE_ROWS * _NOISE
        slope_AP[self.mass_A == 0] = np.nan
        half_PAP = np.ascontiguousarray(inverse_APP.transpose(2, 0, 1))
        return LinearPosterior(slope_AP.T, half_PAP, np.sqrt(squared_A / (rows_A + _NOISE_ROWS)))

    def arrays(self) -> dict[str, Floats]:
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Floats]) -> Self:
        return cls(*(arrays[name] for name in _FIELDS))


_FIELDS = tuple(field.name for field in fields(LinearSums))


@dataclass(frozen=True, slots=True, eq=False)
class LinearPosterior:
    """Regressions as they stand.

    Attributes:
        slope_PA: Coefficients; NaN for an expert never observed.
        half_PAP: Per expert a root of the inverse precision: the squared length of x · half is
            xᵀ A⁻¹ x.
        noise_A: Standard deviation of a score around its mean.
    """

    slope_PA: Floats
    half_PAP: Floats
    noise_A: Floats

    def predict(self, rows_NP: Floats) -> tuple[Floats, Floats]:
        """Expected score and its standard error σ √(xᵀ A⁻¹ x), each (N, A)."""
        width, experts, _ = self.half_PAP.shape
        flat_PQ = self.half_PAP.reshape(width, experts * width)
        length_NA = np.empty((len(rows_NP), experts))
        for start in range(0, len(rows_NP), _BLOCK):
            along = (rows_NP[start : start + _BLOCK] @ flat_PQ).reshape(-1, experts, width)
            length_NA[start : start + _BLOCK] = np.einsum("nap,nap->na", along, along)
        return rows_NP @ self.slope_PA, np.sqrt(length_NA) * self.noise_A
