"""The value of a candidate, and whether it is better than what served, from a log alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.metrics.intervals import ClusterBootstrap, Interval
from eval.ope.logged import Logged
from eval.ope.rewards import Rewards
from eval.ope.spread import bernstein, bootstrapped, normal, stderr
from eval.ope.support import Support, bound, support
from eval.ope.values import ESTIMATORS, Parts, RatioTerms, dr
from routers.records import Floats


@dataclass(frozen=True, slots=True)
class Value:
    """A mean reward with how sure it is.

    Attributes:
        value: Per request; NaN unknown.
        stderr: Its standard error.
        normal: 95 % interval.
        bootstrap: 95 % interval.
        bernstein: 95 % interval that holds for any sample size; None where rewards have no bound.
    """

    value: float
    stderr: float
    normal: Interval | None
    bootstrap: Interval | None
    bernstein: Interval | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a log says of a candidate.

    Attributes:
        support: Whether it can say anything.
        values: Objective to estimator to value; empty when the log can't tell.
        gains: Objective to the candidate's value less that of what served; empty likewise.
        served: Objective to the value of what served.
        share: Expert to its share of the candidate's traffic.
        cost_known: Share of the candidate's traffic whose cost is known or can be expected.
    """

    support: Support
    values: Mapping[str, Mapping[str, Value]]
    gains: Mapping[str, Value]
    served: Mapping[str, Value]
    share: Mapping[str, float]
    cost_known: float

    @property
    def refused(self) -> tuple[str, ...]:
        """Why there are no values; empty when there are."""
        return self.support.refusals


def judge(
    logged: Logged,
    target_NA: Floats,
    known: Rewards,
    *,
    cost_weight_per_usd: float = 0.0,
    seed: int = 0,
    replicates: int = 1000,
    estimators: Sequence[str] = tuple(ESTIMATORS),
) -> Judgement:
    """Estimate what `target_NA` would have led to on the logged requests.

    Args:
        logged: What was seen; rows without any score must be left out before (`Logged.scored`).
        target_NA: P(expert | request) of the candidate, rows sum to 1.
        known: Rewards seen and expected, see `rewards`.
        cost_weight_per_usd: Quality points that a dollar is worth, for `utility`.
        seed: Of the bootstrap.
        replicates: Draws of the bootstrap.
        estimators: Names in `ESTIMATORS`.

    Raises:
        OffPolicyError: The candidate's choices don't fit the log.
    """
    target_NA = logged.check_target(target_NA)
    found = support(logged, target_NA)
    share = dict(zip(logged.table.experts, target_NA.mean(axis=0).tolist(), strict=True))
    cost_known = _known_share(target_NA, known)
    empty = Judgement(found, {}, {}, {}, share, cost_known)
    if found.refusals:
        return empty
    groups = logged.table.groups
    bootstrap = ClusterBootstrap(groups, seed=seed, replicates=replicates)
    scales = _objectives(known, cost_weight_per_usd, cost_known >= 1 - 1e-9)
    values: dict[str, dict[str, Value]] = {}
    gains: dict[str, Value] = {}
    served: dict[str, Value] = {}
    for objective, (reward_NA, model_NA) in scales.items():
        parts = Parts.of(logged, target_NA, reward_NA, model_NA)
        width = bound(parts) if objective == "quality" else None
        values[objective] = {
            name: _value(ESTIMATORS[name](parts), groups, bootstrap, width) for name in estimators
        }
        own = served_terms(logged, reward_NA, model_NA)
        served[objective] = _value(own, groups, bootstrap, None)
        gains[objective] = _value(difference(dr(parts), own), groups, bootstrap, None)
    return Judgement(found, values, gains, served, share, cost_known)


def served_terms(logged: Logged, reward_NA: Floats, model_NA: Floats) -> RatioTerms:
    """The value of what served.

    Where its distribution is on record it is evaluated as any candidate is, which takes out the
    luck of its draws; elsewhere its answers speak for it.
    """
    known_N: npt.NDArray[np.bool_] = np.asarray(~np.isnan(logged.logged_NA).any(axis=1))
    spread_NA = np.where(known_N[:, None], logged.logged_NA, 0.0)
    by_model = dr(Parts.of(logged, spread_NA, reward_NA, model_NA)).top_N
    seen_NA = ~np.isnan(reward_NA)
    count_N = seen_NA.sum(axis=1)
    own_N = np.where(seen_NA, reward_NA, 0.0).sum(axis=1) / np.maximum(count_N, 1)
    return RatioTerms(
        np.where(known_N, by_model, own_N), np.where(known_N | (count_N > 0), 1.0, 0.0)
    )


def difference(first: RatioTerms, second: RatioTerms) -> RatioTerms:
    """First value less second, row by row."""
    top_N = first.influence + first.value - second.influence - second.value
    return RatioTerms(top_N, np.ones_like(top_N))


def _value(
    terms: RatioTerms, groups: Sequence[str], bootstrap: ClusterBootstrap, width: float | None
) -> Value:
    return Value(
        terms.value,
        stderr(terms, groups),
        normal(terms, groups),
        bootstrapped(terms, bootstrap),
        None if width is None else bernstein(terms, groups, width),
    )


def _objectives(
    known: Rewards, cost_weight_per_usd: float, costs_known: bool
) -> dict[str, tuple[Floats, Floats]]:
    found = {"quality": (known.score_NA, known.score_model_NA)}
    if costs_known:
        cost_NA, cost_model_NA = known.cost_NA, np.nan_to_num(known.cost_model_NA)
        found["cost"] = (cost_NA, cost_model_NA)
        found["utility"] = (
            known.score_NA - cost_weight_per_usd * cost_NA,
            known.score_model_NA - cost_weight_per_usd * cost_model_NA,
        )
    return found


def _known_share(target_NA: Floats, known: Rewards) -> float:
    expected_NA = ~np.isnan(known.cost_model_NA)
    return float((target_NA * expected_NA).sum() / max(len(target_NA), 1))
