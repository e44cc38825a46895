"""A candidate router against what served: values, gains, front, and what they rest on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.errors import OffPolicyError
from eval.metrics.intervals import Interval
from eval.ope.asked import LoggedWishes
from eval.ope.candidate import targets, weighed
from eval.ope.front import FrontJudging, FrontPoint, front, policy_points
from eval.ope.judge import Judgement, Value, judge
from eval.ope.logged import Logged
from eval.ope.rewards import rewards
from eval.replay.operating import WORTH
from experts.cards import Prices
from routers.router import Router


@dataclass(frozen=True, slots=True)
class Study:
    """What a log says of a router that never served.

    Attributes:
        candidate: `name@version`, and the policy if all requests are judged under one.
        decisions: Logged decisions looked at.
        scored: Those with a score, which alone say anything.
        judgement: Values and gains under the trade-off that each request asked for.
        front: The router's own policy at fixed cost weights.
        policies: Every named policy, had all requests asked for it.
        utility_per_usd: Quality points that `utility` counts a dollar as.
        sentence: The finding in plain words.
    """

    candidate: str
    decisions: int
    scored: int
    judgement: Judgement
    front: tuple[FrontPoint, ...]
    policies: tuple[FrontPoint, ...]
    utility_per_usd: float
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """JSON-able; unknown figures are null, intervals are pairs."""
        return {
            "candidate": self.candidate,
            "decisions": self.decisions,
            "scored": self.scored,
            "refused": list(self.judgement.refused),
            "warnings": list(self.judgement.support.warnings),
            "support": asdict(self.judgement.support),
            "utility_per_usd": self.utility_per_usd,
            "share": dict(self.judgement.share),
            "served": {name: _value(each) for name, each in self.judgement.served.items()},
            "gain": {name: _value(each) for name, each in self.judgement.gains.items()},
            "values": {
                objective: {name: _value(each) for name, each in values.items()}
                for objective, values in self.judgement.values.items()
            },
            "front": [_front(point) for point in self.front],
            "policies": [_front(point) for point in self.policies],
            "sentence": self.sentence,
        }


def study(
    candidate: Router,
    logged: Logged,
    asked: LoggedWishes,
    prices: Mapping[str, Prices | None],
    *,
    policy: str | None = None,
    seed: int = 0,
    replicates: int = 1000,
    with_front: bool = True,
) -> Study:
    """Judge a router on decisions that others made.

    Utility counts saving the whole of what is spent per request as ten points of quality, as the
    choice of a setting in `evaluate` does.

    Args:
        candidate: The router.
        logged: Decisions, scored or not.
        asked: What each asked for, length N.
        prices: What policies reckon with, for every expert of the log.
        policy: Judge it as if all requests had asked for this named policy; None: as they did.
        seed: Of the folds and of the bootstrap.
        replicates: Draws of the bootstrap.
        with_front: Whether the front and the named policies are estimated too.

    Raises:
        OffPolicyError: No decision is scored, candidate and log don't belong together, or there is
            no such policy.
    """
    rows = np.flatnonzero(logged.seen.any(axis=1))
    if not len(rows):
        raise OffPolicyError(f"none of the {len(logged)} decisions has a score to judge by")
    part, wanted = logged.take(rows), asked.take(rows)
    mine = wanted if policy is None else wanted.under(policy)
    features = candidate.featurizer.transform(part.table.prompts)
    known = rewards(part, features, np.random.default_rng(seed))
    estimates = candidate.estimator.predict(features)
    per_usd = worth_per_usd(part)
    judgement = judge(
        part,
        targets(candidate, part, weighed(candidate, part, prices, mine, estimates), mine, prices),
        known,
        cost_weight_per_usd=per_usd,
        seed=seed,
        replicates=replicates,
    )
    judging = FrontJudging(candidate, part, known, prices, estimates, seed)
    name = f"{candidate.name}@{candidate.version}" + (f" under {policy}" if policy else "")
    return Study(
        name,
        len(logged),
        len(part),
        judgement,
        front(judging, wanted) if with_front else (),
        policy_points(judging, wanted) if with_front else (),
        per_usd,
        _sentence(name, judgement),
    )


def worth_per_usd(logged: Logged) -> float:
    """Quality points that a dollar counts as, so that saving all that is spent counts as ten."""
    cost_NA = logged.table.cost_usd_NA
    known_NA = ~np.isnan(cost_NA)
    weight_NA = np.where(known_NA, 1.0, 0.0)
    if logged.aside_NA is not None:
        # Of what was seen, as much as served.
        weight_NA = np.where(known_NA, logged.logged_NA / logged.table.propensity_NA, 0.0)
    total = float(weight_NA.sum())
    spent = float((weight_NA * np.nan_to_num(cost_NA)).sum()) / total if total else 0.0
    return WORTH / spent if spent > 0 else 0.0


def _sentence(name: str, judgement: Judgement) -> str:
    if judgement.refused:
        return f"Nothing can be said of {name}: {'; '.join(judgement.refused)}."
    quality, cost = judgement.gains["quality"], judgement.gains.get("cost")
    words = f"{name} would score {_points(quality)}"
    if cost is not None and judgement.served["cost"].value > 0:
        served = judgement.served["cost"].value
        half = 1.96 * cost.stderr / served
        way = "less" if cost.value <= 0 else "more"
        words += f", and cost {abs(cost.value) / served:.0%} ± {half:.0%} {way}"
    return f"{words} than what served."


def _points(gain: Value) -> str:
    way = "higher" if gain.value >= 0 else "lower"
    return f"{100 * abs(gain.value):.1f} ± {196 * gain.stderr:.1f} points {way}"


def _value(value: Value) -> dict[str, Any]:
    return {
        "value": _number(value.value),
        "stderr": _number(value.stderr),
        "normal": _pair(value.normal),
        "bootstrap": _pair(value.bootstrap),
        "bernstein": _pair(value.bernstein),
    }


def _front(point: FrontPoint) -> dict[str, Any]:
    return {
        "setting": point.setting,
        "cost_weight": point.cost_weight,
        "quality": None if point.quality is None else _value(point.quality),
        "cost_usd": None if point.cost is None else _value(point.cost),
        "refused": list(point.refused),
    }


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else interval.as_list()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
