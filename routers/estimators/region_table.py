"""A prototype table together with the regions of its rows: what estimators by region share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from routers.errors import RoutingError
from routers.estimators.effort import EffortModel
from routers.estimators.newcomer import probes_of
from routers.estimators.observed import Observed
from routers.estimators.prototype import PrototypeTable
from routers.estimators.regions import Regions
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, Reasons, State
from routers.storage.states import fitted, join_states, part_state

_AGGREGATIONS = ("mean", "rank")


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """How estimates are read off a table.

    Attributes:
        aggregation: "mean" mixes the regions' mean scores. "rank" mixes 1 / (rank + 1) of the
            experts in each, as Avengers-Pro's released code does: robust to scores of different
            scale, but no quality until it is calibrated.
        caution: How many standard errors below its mean a quality is put, >= 0.
    """

    aggregation: str = "mean"
    caution: float = 0.0

    def __post_init__(self) -> None:
        if self.aggregation not in _AGGREGATIONS:
            raise RoutingError(
                f"aggregation {self.aggregation!r} is unknown; use {' or '.join(_AGGREGATIONS)}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class RegionTable:
    """What is left of the outcomes: regions, the table of quality over them, and the effort."""

    regions: Regions
    table: PrototypeTable
    effort: EffortModel
    reading: Reading

    @classmethod
    def of(
        cls,
        regions: Regions,
        features: FeatureBatch,
        outcomes: Observed,
        table: OutcomeTable,
        reading: Reading,
    ) -> Self:
        """Every row counts in the region that it is nearest to, in each set of regions."""
        homes_NR = regions.homes(features.vectors_ND)
        effort = EffortModel().fit(features, table)
        return cls(regions, PrototypeTable.of(homes_NR, outcomes), effort, reading)

    def estimates(self, features: FeatureBatch) -> Estimates:
        """Quality as `quality` has it, with tokens and seconds."""
        return self.effort.estimates(features, *self.quality(features))

    def quality(self, features: FeatureBatch) -> tuple[Floats, Floats]:
        """Expected score and its standard error, each (N, A); NaN unknown, not clipped."""
        share_NR = self.regions.shares(features.vectors_ND)
        quality_NA, stderr_NA = self.table.mix(share_NR)
        # The same outcomes fill the tables of every set, so averaging them makes none surer.
        stderr_NA *= np.sqrt(len(self.regions.centres_SRD))
        if self.reading.aggregation == "rank":
            quality_NA = share_NR @ _reciprocal_ranks(self.table.mean_RA)
        if self.reading.caution:
            quality_NA -= self.reading.caution * stderr_NA
        return quality_NA, stderr_NA

    def reasons(self, kind: str, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        """See `Explaining.reasons`; regions are called `kind` and their number."""
        experts = self.effort.experts
        columns = {one: experts.index(one) for one in (chosen, other) if one in experts}
        share_R = self.regions.shares(features.vectors_ND)[0]
        if self.reading.aggregation == "rank":
            return Reasons()
        names = [f"{kind} {place}" for place in range(len(share_R))]
        return Reasons(regions=self.table.regions(share_R, names, columns))

    def with_expert(self, expert: str, features: FeatureBatch, probes: OutcomeTable) -> Self:
        """See `OpenPoolEstimator.add_expert`."""
        seen = probes_of(expert, self.effort.experts, features, probes)
        effort = self.effort.with_expert(expert, features, probes)
        member_PR = self.regions.homes(features.vectors_ND) / len(self.regions.centres_SRD)
        table = self.table.with_expert(effort.experts.index(expert), member_PR, seen)
        return replace(self, table=table, effort=effort)

    def without_expert(self, expert: str) -> Self:
        """See `OpenPoolEstimator.remove_expert`."""
        effort = self.effort.without_expert(expert)
        place = self.effort.experts.index(expert)
        return replace(self, table=self.table.without_expert(place), effort=effort)

    def state(self) -> State:
        parts = {
            "regions": self.regions.state(),
            "table": self.table.state(),
            "effort": self.effort.state(),
        }
        reading = {"aggregation": self.reading.aggregation, "caution": self.reading.caution}
        return join_states((reading, {}), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(
            Regions.from_state(part_state(state, "regions")),
            PrototypeTable.from_state(part_state(state, "table")),
            EffortModel.from_state(part_state(state, "effort")),
            Reading(state[0]["aggregation"], state[0]["caution"]),
        )


class RegionEstimator(ABC):
    """What estimators are that keep nothing but a `RegionTable`: all but how regions are found.

    Subclasses set `name` and `settings`, the names of the constructor's arguments (JSON-able), and
    find regions in `fit`.
    """

    name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self._parts: RegionTable | None = None

    @abstractmethod
    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        """See `Estimator.fit`."""

    def predict(self, features: FeatureBatch) -> Estimates:
        return fitted(self._parts).estimates(features)

    def quality(self, features: FeatureBatch) -> tuple[Floats, Floats]:
        """Expected score and its standard error, each (N, A); NaN unknown, not clipped."""
        return fitted(self._parts).quality(features)

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        return fitted(self._parts).reasons(self.name, features, chosen, other)

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        return self._with(fitted(self._parts).with_expert(expert, features, probes))

    def remove_expert(self, expert: str) -> Self:
        return self._with(fitted(self._parts).without_expert(expert))

    def state(self) -> State:
        return join_states((self._said(), {}), {"parts": fitted(self._parts).state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        said = {name: state[0][name] for name in cls.settings}
        return cls(**said)._with(RegionTable.from_state(part_state(state, "parts")))

    def _said(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.settings}

    def _with(self, parts: RegionTable) -> Self:
        result = type(self)(**self._said())
        result._parts = parts
        return result


def _reciprocal_ranks(mean_RA: Floats) -> Floats:
    """1 / (rank + 1) of each expert in each region, the best having rank 0; equals share theirs.

    An expert of which nothing is known has none: NaN.
    """
    better_RA = (mean_RA[:, None, :] > mean_RA[:, :, None]).sum(axis=2)
    as_good_RA = (mean_RA[:, None, :] == mean_RA[:, :, None]).sum(axis=2)
    rank_RA = better_RA + (as_good_RA - 1) / 2
    return np.where(np.isnan(mean_RA), np.nan, 1 / (rank_RA + 1))
