"""Several estimators weighed by how well each foretells rows that it had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from routers.base import Estimator
from routers.errors import TableError
from routers.estimators.effort import EffortModel
from routers.estimators.folds import group_folds, others
from routers.estimators.nearness import Nearness
from routers.estimators.observed import Observed, observed
from routers.estimators.premium import premium
from routers.estimators.standing import standing
from routers.explaining.reasons import merged, reasons_of
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, Reasons, State
from routers.registry import estimator_class, make_estimator
from routers.storage.states import fitted, join_states, part_state

_FOLDS = 5
# What is believed of the members before they are tried: together seven tenths of what they say,
# with the weight of 60 rows. Other totals and 200 rows did about as well.
_BELIEVED = 0.7
_BELIEVED_ROWS = 60.0
_BEND = 0.03
_STRANGE = (0.02, 0.08)
# No cosine is lower.
_ALL_TRUSTED = np.array([-3.0, -2.0])
_TINY = 1e-12
# What a decision costs grows with the rows that are remembered, and beyond some thousand they add
# little to what the other members know.
_SETTINGS: Mapping[str, Mapping[str, int]] = {"knn": {"k": 100, "most_rows": 1500}}
# Where tasks are known and a table has more rows than this, these members add nothing.
_STANDS_BACK: Mapping[str, int] = {"cluster": 0, "knn": 1000}


class _Member(Protocol):
    """An estimator whose quality can be had by itself."""

    name: str

    def fit(
        self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator
    ) -> _Member: ...

    def quality(self, features: FeatureBatch) -> tuple[Floats, Floats]: ...

    def state(self) -> State: ...


class StackedEstimator:
    r"""Each expert's standing, moved by what the members say as far as they proved right.

    .. math:: \hat q_a(x) = \mu_a + t(x) \Bigl(\sum_m w_m (d_{ma}(x) - \bar d_m(x))
        + \sum_m v_m \bar d_m(x)\Bigr)

    where :math:`d_{ma} = \hat q_{ma} - \mu_a` and the bar is the mean over experts: w weighs what
    tells experts apart, v how hard a request is for everybody. Both are non-negative, sum to at
    most 1, and fit by least squares what members say of folds that they were not fitted on. Where
    nothing can be foretold they come near 0, and the expert of the highest standing is left: the
    best single one. So it is with a request unlike all that was learned from: t falls from 1 to 0
    where its five nearest rows are farther away than those of 8 to 2 in 100 of the held-out rows.

    Args:
        members: Names of estimators that have a `quality`; one that refuses the table, as
            `category` does without task labels, is left out. Where `category` doesn't refuse it,
            `cluster` is left out, and `knn` above 1,000 rows: there they only took time.

    Source: Breiman, "Stacked regressions", 1996.
    """

    name = "stack"

    def __init__(self, members: tuple[str, ...] = ("category", "cluster", "knn", "ridge")) -> None:
        self.members = members
        self._fitted: tuple[_Member, ...] = ()
        self._blend: _Blend | None = None
        self._effort: EffortModel | None = None
        self._nearness: Nearness | None = None
        self._shown: _Unseen | None = None

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        outcomes = observed(features, table)
        unfitted = self._fitted or tuple(
            cast(_Member, make_estimator(name, **_SETTINGS.get(name, {}))) for name in self.members
        )
        members = self._able(unfitted, features, table, rng)
        shown = _unseen(members, features, table, rng)
        result = type(self)(self.members)
        result._fitted = tuple(members)
        result._blend = _Blend.of(outcomes, shown)
        result._effort = EffortModel().fit(features, table)
        result._nearness = Nearness.of(features.vectors_ND, rng)
        result._shown = shown
        return result

    def out_of_fold(self, table: OutcomeTable) -> Estimates:
        """What would be predicted for the rows it was just fitted on, had it not seen them.

        Only the few weights are those that all rows together led to.

        Args:
            table: The table that `fit` was given.

        Returns:
            One row per row of `table`; NaN where nothing could be held out.

        Raises:
            RoutingError: It was not fitted in this process: artifacts do not keep this.
        """
        shown = fitted(self._shown)
        quality_NA = _bent(fitted(self._blend).mix(shown.base_NA, shown.said_MNA, shown.near_N))
        return replace(shown.rest, quality_NA=quality_NA)

    def predict(self, features: FeatureBatch) -> Estimates:
        blend = fitted(self._blend)
        said_MNA, stderr_MNA = _ask(self._fitted, features)
        near_N = fitted(self._nearness).near(features.vectors_ND)
        quality_NA = _bent(blend.mix(blend.standing_A, said_MNA, near_N))
        stderr_NA = blend.mixed_stderr(stderr_MNA)
        return fitted(self._effort).estimates(features, quality_NA, stderr_NA)

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        blend = fitted(self._blend)
        near_N = fitted(self._nearness).near(features.vectors_ND)
        trust = float(_trust(near_N, blend.near_2)[0, 0])
        members = cast("tuple[Estimator, ...]", self._fitted)
        parts = [reasons_of(member, features, chosen, other) for member in members]
        return merged(parts, (blend.apart_M * trust).tolist())

    def _able(
        self,
        unfitted: Sequence[_Member],
        features: FeatureBatch,
        table: OutcomeTable,
        rng: np.random.Generator,
    ) -> list[_Member]:
        """The members fitted, without those that the table is not for."""
        found: list[_Member] = []
        for member in unfitted:
            if _spared(member, found, table):
                continue
            able = _fit(member, features, table, rng)
            found += [] if able is None else [able]
        return found

    def state(self) -> State:
        blend = fitted(self._blend)
        arrays = {name: getattr(blend, name) for name in blend.__slots__}
        arrays["near"] = fitted(self._nearness).vectors_DN
        params = {
            "members": list(self.members),
            "fitted": [member.name for member in self._fitted],
        }
        parts = {member.name: member.state() for member in self._fitted}
        effort = {"effort": fitted(self._effort).state()}
        return join_states((params, arrays), parts | effort)

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        result = cls(tuple(params["members"]))
        result._fitted = tuple(
            cast(_Member, estimator_class(name).from_state(part_state(state, name)))
            for name in params["fitted"]
        )
        result._blend = _Blend(*(arrays[name] for name in _Blend.__slots__))
        result._nearness = Nearness(np.ascontiguousarray(arrays["near"]))
        result._effort = EffortModel.from_state(part_state(state, "effort"))
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Unseen:
    """What members said of rows that they had not been fitted on.

    Attributes:
        base_NA: Each expert's standing in the rows that they were fitted on.
        said_MNA: Their qualities, M members; NaN where there are none.
        near_N: How near each row's nearest ones are; NaN where nothing was held out.
        rest: Standing's standard errors, and tokens and seconds as they were expected.
    """

    base_NA: Floats
    said_MNA: Floats
    near_N: Floats
    rest: Estimates


@dataclass(frozen=True, slots=True, eq=False)
class _Blend:
    """How what `M` members say is put together.

    Attributes:
        standing_A: Standing of each expert; NaN for one never observed.
        stderr_A: Its standard error.
        apart_M: Weights of what tells experts apart.
        level_M: Weights of how hard a request is.
        near_2: How near the nearest rows of a request must be to trust members with it, in part
            and wholly.
        premium_A: What is added to the quality of the best single expert, see `premium`.
    """

    standing_A: Floats
    stderr_A: Floats
    apart_M: Floats
    level_M: Floats
    near_2: Floats
    premium_A: Floats

    @classmethod
    def of(cls, outcomes: Observed, shown: _Unseen) -> Self:
        weight_NA = np.where(np.isnan(shown.base_NA), 0.0, outcomes.weight_NA)
        score_NA = np.where(weight_NA > 0, outcomes.score_NA - np.nan_to_num(shown.base_NA), 0.0)
        mass_N1 = weight_NA.sum(axis=1, keepdims=True)
        known_N = ~np.isnan(shown.near_N)
        near_2 = np.quantile(shown.near_N[known_N], _STRANGE) if known_N.any() else _ALL_TRUSTED
        trust_N1 = _trust(shown.near_N, near_2)
        moved_MNA = [_moved(said_NA, shown.base_NA) * trust_N1 for said_NA in shown.said_MNA]
        known_A = (outcomes.weight_NA > 0).any(axis=0)
        mean_MN1 = [moved_NA[:, known_A].mean(axis=1, keepdims=True) for moved_NA in moved_MNA]
        ease_N1 = (weight_NA * score_NA).sum(axis=1, keepdims=True) / np.maximum(mass_N1, _TINY)
        level_M = _weights(mean_MN1, ease_N1, mass_N1)
        expected_N1 = sum(
            (level * mean_N1 for level, mean_N1 in zip(level_M, mean_MN1, strict=True)),
            start=np.zeros_like(ease_N1),
        )
        truth_NA = _centred(score_NA, weight_NA, expected_N1)
        apart_MNA = [
            _centred(moved_NA, weight_NA, mean_N1)
            for moved_NA, mean_N1 in zip(moved_MNA, mean_MN1, strict=True)
        ]
        apart_M = _weights(apart_MNA, truth_NA, weight_NA)
        none_A = np.zeros(weight_NA.shape[1])
        blend = cls(*standing(outcomes), apart_M, level_M, near_2, none_A)
        best = int(np.nanargmax(blend.standing_A))
        unseen_NA = blend.mix(shown.base_NA, shown.said_MNA, shown.near_N)
        found = premium(unseen_NA, shown.base_NA, outcomes, best)
        return replace(blend, premium_A=found * (np.arange(len(none_A)) == best))

    def mix(self, base: Floats, said_MNA: Floats, near_N: Floats) -> Floats:
        """Quality of each expert, (N, A), from standings, (A,) or (N, A), and what members say."""
        moved_MNA = _moved(said_MNA, base)
        members, count, experts = moved_MNA.shape
        flat_MR = moved_MNA.reshape(members, count * experts)
        moved_NA = (self.apart_M @ flat_MR).reshape(count, experts)
        shared_NA = ((self.level_M - self.apart_M) @ flat_MR).reshape(count, experts)
        # Nobody moves an expert of whom nothing is known.
        known = np.count_nonzero(self.standing_A == self.standing_A)
        moved_NA += np.add.reduce(shared_NA, axis=1, keepdims=True) / known
        moved_NA *= _trust(near_N, self.near_2)
        moved_NA += base
        moved_NA += self.premium_A
        return moved_NA

    def mixed_stderr(self, stderr_MNA: Floats) -> Floats:
        """Standard error, (N, A): as if the members' errors all went the same way."""
        members, count, experts = stderr_MNA.shape
        flat_MR = stderr_MNA.reshape(members, count * experts)
        mixed_NA: Floats = (self.apart_M @ flat_MR).reshape(count, experts)
        mixed_NA += (1 - self.apart_M.sum()) * self.stderr_A
        return mixed_NA


def _spared(member: _Member, found: Sequence[_Member], table: OutcomeTable) -> bool:
    """Whether a member would only take time: `_STANDS_BACK` says where."""
    return (
        member.name in _STANDS_BACK
        and len(table) > _STANDS_BACK[member.name]
        and any(each.name == "category" for each in found)
    )


def _fit(
    member: _Member, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator
) -> _Member | None:
    try:
        return member.fit(features, table, rng)
    except TableError:
        # What is wrong with the table itself was found before; this member needs more of it.
        return None


def _ask(members: Sequence[_Member], features: FeatureBatch) -> tuple[Floats, Floats]:
    """Qualities and standard errors, each (M, N, A)."""
    found = [member.quality(features) for member in members]
    both_RA = np.concatenate(
        [quality_NA for quality_NA, _ in found] + [error for _, error in found]
    )
    said_MNA, stderr_MNA = both_RA.reshape(2, len(members), len(features), both_RA.shape[1])
    return said_MNA, stderr_MNA


def _trust(near_N: Floats, near_2: Floats) -> Floats:
    """Share in which members are trusted with each request, (N, 1); all where none was held out."""
    low, high = near_2.tolist()
    share_N = (near_N - low) / max(high - low, _TINY)
    # Of NaN and 1 the smaller is 1.
    trust_N1: Floats = np.maximum(np.fmin(share_N, 1.0), 0.0)[:, None]
    return trust_N1


def _unseen(
    members: list[_Member], features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator
) -> _Unseen:
    base_NA, stderr_NA, tokens_NA, latency_NA = (
        np.full(table.score_NA.shape, np.nan) for _ in range(4)
    )
    said_MNA = np.full((len(members), *table.score_NA.shape), np.nan)
    near_N = np.full(len(table), np.nan)
    for fold in group_folds(table.groups, _FOLDS, rng):
        known = others(fold, len(table))
        part, seen, held_out = table.take(known), features.take(known), features.take(fold)
        if np.isnan(part.score_NA).all():
            continue
        base_NA[fold], stderr_NA[fold] = standing(observed(seen, part))
        effort = EffortModel().fit(seen, part)
        expected = effort.estimates(held_out, base_NA[fold], stderr_NA[fold])
        tokens_NA[fold], latency_NA[fold] = expected.output_tokens_NA, expected.latency_s_NA
        # Fitted again, they keep what they chose by cross-validation on all rows.
        trials = [(place, _fit(member, seen, part, rng)) for place, member in enumerate(members)]
        able = {place: trial for place, trial in trials if trial is not None}
        told_MNA, _ = _ask(tuple(able.values()), held_out)
        near_N[fold] = Nearness.of(seen.vectors_ND, rng).near(held_out.vectors_ND)
        for place, told_NA in zip(able, told_MNA, strict=True):
            said_MNA[place][fold] = told_NA
    rest = Estimates(table.experts, base_NA, stderr_NA, tokens_NA, latency_NA)
    return _Unseen(base_NA, said_MNA, near_N, rest)


def _moved(said: Floats, base: Floats) -> Floats:
    """How far from their standing a member sees the experts; 0 where it says nothing."""
    moved = said - base
    # NaN equals nothing. np.nan_to_num takes ten times as long for one request.
    np.copyto(moved, 0.0, where=moved != moved)
    return moved


def _bent(quality_NA: Floats) -> Floats:
    """Qualities bent into (0, 1) near its ends, so that no two beyond an end become equal."""
    low = np.fmin.reduce(quality_NA, None, initial=0.5)
    if low >= _BEND and np.fmax.reduce(quality_NA, None, initial=0.5) <= 1 - _BEND:
        return quality_NA
    low_NA = np.minimum(quality_NA, _BEND) / _BEND - 1
    high_NA = np.maximum(quality_NA, 1 - _BEND) / _BEND - (1 - _BEND) / _BEND
    inner_NA = np.minimum(np.maximum(quality_NA, _BEND), 1 - _BEND)
    bent_NA: Floats = inner_NA + _BEND * (np.tanh(low_NA) + np.tanh(high_NA))
    return bent_NA


def _centred(values_NA: Floats, weight_NA: Floats, expected_N1: Floats) -> Floats:
    """Values less their row's mean over what was observed.

    In a row of one outcome that would be nothing: there what was expected of the row stands in.
    """
    several_N1 = (weight_NA > 0).sum(axis=1, keepdims=True) > 1
    mass_N1 = np.maximum(weight_NA.sum(axis=1, keepdims=True), _TINY)
    mean_N1 = (weight_NA * values_NA).sum(axis=1, keepdims=True) / mass_N1
    return values_NA - np.where(several_N1, mean_N1, expected_N1)


def _weights(parts_M: list[Floats], truth: Floats, weight: Floats) -> Floats:
    """Non-negative least squares of the truth on its parts, drawn to equal weights; sum <= 1."""
    count = len(parts_M)
    root = np.sqrt(weight)
    design_RM = np.stack([(root * part).ravel() for part in parts_M], axis=1)
    gram_MM = design_RM.T @ design_RM
    energy = float(np.trace(gram_MM)) / count
    if energy < _TINY:
        return np.zeros(count)
    # The prior weighs as much as so many rows of the table do.
    prior = energy * _BELIEVED_ROWS / len(truth)
    wanted_M = design_RM.T @ (root * truth).ravel() + prior * _BELIEVED / count
    lower_MM = np.linalg.cholesky(gram_MM + (prior + 1e-9 * energy) * np.eye(count))
    # Half a second to load, and only this function needs it.
    from scipy.optimize import nnls

    found_M: npt.NDArray[np.float64] = nnls(lower_MM.T, np.linalg.solve(lower_MM, wanted_M))[0]
    return found_M / max(1.0, float(found_M.sum()))
