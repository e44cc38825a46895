"""A wrapper that lets any estimator take in an expert without training anew, and without harm."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.base import Estimator
from routers.errors import RoutingError
from routers.estimators.effort import EffortModel
from routers.estimators.newcomer import NewcomerSurplus, mean_of_pool, probes_of
from routers.estimators.regions import Regions, k_means
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State
from routers.registry import DEFAULT_ESTIMATOR, estimator_class, make_estimator
from routers.storage.states import fitted, join_states, part_state

_CLUSTERS = 5
_ROWS_PER_CLUSTER = 5
_JUDGED_ROWS = 2000


class SafeEstimator:
    """The wrapped estimator for the experts it was fitted on, a table of clusters for newcomers.

    A newcomer's quality is the mean of what is expected of the others on the request, plus how much
    better or worse than that it was on its probes of the same cluster, less a standard error
    (`NewcomerSurplus`). So it is as fine as the wrapped estimator: a mean per cluster would beat
    all others on the hard requests of an easy cluster. 25 to 100 probes are enough for it to be
    chosen where it is clearly better, and too few to be chosen for its luck. An expert that the
    wrapped estimator knows is let go by hiding it.

    Args:
        inner: The estimator to wrap, unfitted; None takes the default one.
    """

    name = "safe"

    def __init__(self, inner: Estimator | None = None) -> None:
        self.inner = inner or make_estimator(DEFAULT_ESTIMATOR)
        self._known: tuple[str, ...] = ()
        self._hidden: tuple[str, ...] = ()
        self._regions: Regions | None = None
        self._surplus_RE: Floats = np.zeros((0, 0))
        self._stderr_RE: Floats = np.zeros((0, 0))
        self._effort: EffortModel | None = None

    @classmethod
    def around(
        cls, inner: Estimator, features: FeatureBatch, rng: np.random.Generator
    ) -> SafeEstimator:
        """Wrap an estimator that is fitted already.

        Args:
            inner: What speaks for the experts known so far.
            features: Requests like those to come, at least one, to be clustered; no score of them
                needs to be known.
            rng: The only source of chance.

        Raises:
            RoutingError: There are no requests.
        """
        if not len(features):
            raise RoutingError("safe admission needs requests to cluster, and there are none")
        if len(features) > _JUDGED_ROWS:
            features = features.take(np.sort(rng.permutation(len(features))[:_JUDGED_ROWS]))
        count = max(1, min(_CLUSTERS, len(features) // _ROWS_PER_CLUSTER))
        result = cls(inner)
        result._known = inner.predict(features.take(np.arange(1))).experts
        result._regions = Regions(k_means(features.vectors_ND, count, rng)[None])
        result._surplus_RE = result._stderr_RE = np.zeros((count, 0))
        result._effort = EffortModel.of_nobody(features.vectors_ND.shape[1])
        return result

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        wrapped = self.around(self.inner.fit(features, table, rng), features, rng)
        return self._like(wrapped)

    def predict(self, features: FeatureBatch) -> Estimates:
        effort, known = fitted(self._effort), self.inner.predict(features)
        if not (effort.experts or self._hidden):
            return known
        home_NR = fitted(self._regions).homes(features.vectors_ND)
        newcomer = NewcomerSurplus(home_NR @ self._surplus_RE, home_NR @ self._stderr_RE)
        bound_NE = newcomer.bound(mean_of_pool(known.quality_NA)[:, None])
        new = effort.estimates(features, bound_NE, newcomer.stderr_R)
        order = self._order()
        listed = (*known.experts, *new.experts)
        return Estimates(
            tuple(listed[place] for place in order),
            np.hstack([known.quality_NA, new.quality_NA])[:, order],
            np.hstack([known.stderr_NA, new.stderr_NA])[:, order],
            np.hstack([known.output_tokens_NA, new.output_tokens_NA])[:, order],
            np.hstack([known.latency_s_NA, new.latency_s_NA])[:, order],
            unfamiliar_N=known.unfamiliar_N,
        )

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        effort = fitted(self._effort)
        visible = set(self._known) - set(self._hidden)
        seen = probes_of(expert, sorted(visible.union(effort.experts)), features, probes)
        home_PR = fitted(self._regions).homes(features.vectors_ND)
        pool_P = mean_of_pool(self.inner.predict(features).quality_NA)
        newcomer = NewcomerSurplus.of(home_PR, seen, pool_P)
        result = self._like(self)
        result._effort = effort.with_expert(expert, features, probes)
        place = result._effort.experts.index(expert)
        result._surplus_RE = np.insert(self._surplus_RE, place, newcomer.surplus_R, axis=1)
        result._stderr_RE = np.insert(self._stderr_RE, place, newcomer.stderr_R, axis=1)
        return result

    def remove_expert(self, expert: str) -> Self:
        effort = fitted(self._effort)
        result = self._like(self)
        if expert in self._known and expert not in {*self._hidden, *effort.experts}:
            result._hidden = (*self._hidden, expert)
            return result
        result._effort = effort.without_expert(expert)
        place = effort.experts.index(expert)
        result._surplus_RE = np.delete(self._surplus_RE, place, axis=1)
        result._stderr_RE = np.delete(self._stderr_RE, place, axis=1)
        return result

    def state(self) -> State:
        params = {
            "kind": self.inner.name,
            "known": list(self._known),
            "hidden": list(self._hidden),
        }
        arrays = {"surplus": self._surplus_RE, "stderr": self._stderr_RE}
        parts = {
            "inner": self.inner.state(),
            "regions": fitted(self._regions).state(),
            "effort": fitted(self._effort).state(),
        }
        return join_states((params, arrays), parts)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(estimator_class(params["kind"]).from_state(part_state(state, "inner")))
        result._known, result._hidden = tuple(params["known"]), tuple(params["hidden"])
        result._surplus_RE, result._stderr_RE = arrays["surplus"], arrays["stderr"]
        result._regions = Regions.from_state(part_state(state, "regions"))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result

    def _order(self) -> list[int]:
        """Columns that stay, sorted by id: first those of `inner`, then the newcomers'."""
        listed = (*self._known, *fitted(self._effort).experts)
        staying = [
            place
            for place, expert in enumerate(listed)
            if place >= len(self._known) or expert not in self._hidden
        ]
        return sorted(staying, key=listed.__getitem__)

    def _like(self, other: SafeEstimator) -> Self:
        result = type(self)(other.inner)
        result.__dict__.update(other.__dict__)
        return result
