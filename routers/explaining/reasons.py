"""Why an estimator expects more of one expert than of another: in numbers, and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from routers.base import Encoder, Estimator, Explaining, NamingEncoder, Wrapping
from routers.records import (
    Contribution,
    FeatureBatch,
    Floats,
    Linear,
    Neighbour,
    Reasons,
    Region,
)

_USUAL = "(what is usual)"
_MOST_NAMED = 8
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Why:
    """What speaks for the chosen expert against the next one.

    Attributes:
        chosen: Its id.
        other: Id of the best of the others.
        neighbours: Nearest logged queries, the nearest first. Ids, likeness and scores alone: a
            prompt may be somebody else's.
        regions: Tasks or clusters that the request belongs to, the likeliest first.
        contributions: What each word or feature adds to the difference of the two, in `unit`; with
            `baseline` they sum to it. The largest first, the rest in one.
        baseline: The difference on an average request.
        unit: "quality" or "log-odds".
    """

    chosen: str
    other: str
    neighbours: tuple[Neighbour, ...] = ()
    regions: tuple[Region, ...] = ()
    contributions: tuple[Contribution, ...] = ()
    baseline: float = 0.0
    unit: str = "quality"

    def sentence(self) -> str:
        """All of it in one sentence; empty where nothing is known."""
        parts = [*self._of_regions(), *self._of_neighbours(), *self._of_contributions()]
        return f"Because {'; '.join(parts)}." if parts else ""

    def _of_regions(self) -> list[str]:
        if not self.regions:
            return []
        first = self.regions[0]
        about = f"it looks like {first.name} ({first.share:.0%})"
        return [f"{about}, where {self._figures(first.quality)}"]

    def _of_neighbours(self) -> list[str]:
        count = len(self.neighbours)
        if not count:
            return []
        near, far = self.neighbours[0].similarity, self.neighbours[-1].similarity
        seen = {
            expert: scores
            for expert in (self.chosen, self.other)
            if (scores := [one.scores[expert] for one in self.neighbours if expert in one.scores])
        }
        if not seen:
            return []
        means = {expert: sum(scores) / len(scores) for expert, scores in seen.items()}
        what = f"on the {count} nearest logged queries (similarity {near:.2f} to {far:.2f})"
        return [f"{what} {self._figures(means)}"]

    def _of_contributions(self) -> list[str]:
        named = [one for one in self.contributions if not one.name.startswith("(")][:_TOLD]
        if not named:
            return []
        listed = ", ".join(f"{one.name!r} {one.points:+.3f}" for one in named)
        return [f"most of the difference in {self.unit} comes from {listed}"]

    def _figures(self, of: Mapping[str, float]) -> str:
        both = [expert for expert in (self.chosen, self.other) if expert in of]
        return " against ".join(f"{expert} has {of[expert]:.2f}" for expert in both)


def reasons_of(estimator: Estimator, features: FeatureBatch, chosen: str, other: str) -> Reasons:
    """What an estimator, or what it wraps, gives as reasons; nothing where it gives none.

    Args:
        estimator: Fitted.
        features: Of one request.
        chosen: An expert.
        other: Another one.
    """
    if isinstance(estimator, Explaining):
        return estimator.reasons(features, chosen, other)
    if isinstance(estimator, Wrapping):
        return reasons_of(estimator.inner, features, chosen, other)
    return Reasons()


def merged(parts: Sequence[Reasons], shares: Sequence[float]) -> Reasons:
    """The reasons of a mixture: each member's; of the first linear one, its share of the whole.

    Args:
        parts: Of each member.
        shares: How much of each member's difference is in that of the mixture.
    """
    lines = [(each.linear, share) for each, share in zip(parts, shares, strict=True)]
    linear = next(
        (
            replace(line, slope_D=line.slope_D * share, baseline=line.baseline * share)
            for line, share in lines
            if line is not None and share > 0
        ),
        None,
    )
    return Reasons(
        neighbours=tuple(one for part in parts for one in part.neighbours),
        regions=tuple(one for part in parts for one in part.regions),
        linear=linear,
    )


def why(
    estimator: Estimator, encoder: Encoder, features: FeatureBatch, chosen: str, other: str
) -> Why:
    """Why `chosen` rather than `other`, for one request.

    Args:
        estimator: Fitted.
        encoder: What made the features; one that names what its dimensions are made of has the
            difference given back to words.
        features: Of one request.
        chosen: An expert.
        other: Another one.
    """
    found = reasons_of(estimator, features, chosen, other)
    if found.linear is None:
        return Why(chosen, other, found.neighbours, found.regions)
    line = found.linear
    return Why(
        chosen,
        other,
        found.neighbours,
        found.regions,
        contributions(line, encoder, features),
        line.baseline,
        line.unit,
    )


def contributions(
    line: Linear, encoder: Encoder, features: FeatureBatch
) -> tuple[Contribution, ...]:
    r"""Exact shares of a linear difference, summing to it less its baseline.

    .. math:: \phi_j = w_j (x_j - \bar x_j), \quad \sum_j \phi_j = u(x) - u(\bar x)

    the Shapley values of a linear function. Where the encoder can say what words and form add to
    w·x, those stand for the dimensions, and -w·x̄ is one share more.

    Source: Štrumbelj & Kononenko, "Explaining prediction models and individual predictions with
    feature contributions", 2014.
    """
    vector_D = features.vectors_ND[0].astype(np.float64)
    if isinstance(encoder, NamingEncoder):
        parts = dict(encoder.parts(features.texts[0], line.slope_D))
        parts[_USUAL] = -float(line.slope_D @ line.mean_D)
    else:
        phi_D: Floats = line.slope_D * (vector_D - line.mean_D)
        parts = {f"dimension {place}": float(phi) for place, phi in enumerate(phi_D)}
    ranked = sorted(parts.items(), key=lambda item: (-abs(item[1]), item[0]))
    named = [Contribution(name, points) for name, points in ranked[:_MOST_NAMED]]
    rest = sum(points for _, points in ranked[_MOST_NAMED:])
    if len(ranked) > _MOST_NAMED:
        named.append(Contribution("(all others)", rest))
    return tuple(named)
