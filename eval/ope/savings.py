"""What routing saved: what was spent and scored, beside what else one might have done instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.errors import OffPolicyError
from eval.metrics.intervals import Interval
from eval.ope.asked import LoggedWishes
from eval.ope.candidate import always, targets, weighed
from eval.ope.judge import Judgement, judge
from eval.ope.logged import Aside, Logged, Served
from eval.ope.rewards import Rewards, rewards
from eval.ope.topics import topics
from experts.cards import Prices
from routers.features import Featurizer
from routers.records import Floats
from routers.router import Router

_REPLICATES = 500
_MOST_PARTS = 20


@dataclass(frozen=True, slots=True)
class Alternative:
    """Something that might have been done instead.

    Attributes:
        name: In words.
        cost_usd: Dollars per request that it would have cost; None when the log can't tell.
        quality: That it would have reached, in [0, 1]; None likewise.
        saved: Share of that cost which routing saved, in (-inf, 1]; None likewise.
        saved_ci: Its 95 % interval.
        quality_gain: Quality of what served less the alternative's; None likewise.
        quality_gain_ci: Its 95 % interval.
        refused: Why the log can't tell.
    """

    name: str
    cost_usd: float | None = None
    quality: float | None = None
    saved: float | None = None
    saved_ci: Interval | None = None
    quality_gain: float | None = None
    quality_gain_ci: Interval | None = None
    refused: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        if self.saved is None or self.quality_gain is None:
            return f"Against {self.name.lower()}, nothing can be said: {'; '.join(self.refused)}."
        return (
            f"Against {self.name.lower()}, routing saved {_share(self.saved, self.saved_ci)} of "
            f"the cost, at a quality {_points(self.quality_gain, self.quality_gain_ci)}."
        )


@dataclass(frozen=True, slots=True)
class PartSavings:
    """The same for some of the requests.

    Attributes:
        label: What they share, such as `key`, `task`, `topic` or the name of a tag.
        value: And its value.
        requests: How many.
        spent_usd: On them.
        alternatives: As above.
    """

    label: str
    value: str
    requests: int
    spent_usd: float
    alternatives: tuple[Alternative, ...]


_NOTHING_ASIDE = Aside(0, 0.0)


@dataclass(frozen=True, slots=True)
class Savings:
    """What routing saved in a window.

    Attributes:
        requests: That a router decided.
        scored: Those with a score; off-policy figures rest on them.
        spent_usd: On all of them, as far as prices are known.
        unpriced: How many cost something unknown.
        quality: Mean score.
        aside: Shadow calls, which are no part of what was spent.
        alternatives: What else might have been done.
        parts: The same by key, tag, task and topic; the busiest first.
    """

    requests: int
    scored: int
    spent_usd: float
    unpriced: int
    quality: float
    aside: Aside
    alternatives: tuple[Alternative, ...]
    parts: tuple[PartSavings, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON-able; unknown figures are null, intervals are pairs."""
        return {
            "requests": self.requests,
            "scored": self.scored,
            "spent_usd": self.spent_usd,
            "unpriced": self.unpriced,
            "quality": None if np.isnan(self.quality) else self.quality,
            "shadow_calls": self.aside.calls,
            "shadow_usd": self.aside.cost_usd,
            "alternatives": [_json(each) for each in self.alternatives],
            "parts": [
                {
                    "label": part.label,
                    "value": part.value,
                    "requests": part.requests,
                    "spent_usd": part.spent_usd,
                    "alternatives": [_json(each) for each in part.alternatives],
                }
                for part in self.parts
            ],
        }


def savings(
    logged: Logged,
    asked: LoggedWishes,
    prices: Mapping[str, Prices | None],
    featurizer: Featurizer,
    served: Served,
    *,
    previous: Router | None = None,
    aside: Aside = _NOTHING_ASIDE,
    labels: Mapping[str, Sequence[str | None]] | None = None,
    seed: int = 0,
) -> Savings:
    """Compare what routers did with what might have been done instead.

    The best single expert is the one whose estimated quality is the highest among those that the
    log can judge; the cheapest is the one of the lowest expected cost among them.

    Args:
        logged: Decisions, scored or not.
        asked: What each asked for, length N.
        prices: What policies reckon with.
        featurizer: Makes the features of the models of rewards.
        served: What came of each, length N.
        previous: The router that served before.
        aside: What shadow calls cost meanwhile.
        labels: What requests are counted apart by: label to values, each of length N. With them
            what they are about, see `eval.ope.topics`.
        seed: Of folds and bootstrap.

    Raises:
        OffPolicyError: No decision is scored.
    """
    rows = np.flatnonzero(logged.seen.any(axis=1))
    if not len(rows):
        raise OffPolicyError(f"none of the {len(logged)} decisions has a score to judge by")
    part = logged.take(rows)
    features = featurizer.transform(logged.table.prompts)
    known = rewards(part, features.take(rows), np.random.default_rng(seed))
    about = topics(logged.table.prompts, features.vectors_ND, seed)
    choices = _singles(part, known)
    if previous is not None:
        wanted = asked.take(rows)
        queries = weighed(previous, part, prices, wanted)
        choices["The previous router"] = targets(previous, part, queries, wanted, prices)
    spent_N = np.nan_to_num(served.cost_usd_N)
    scored_N = served.score_N[~np.isnan(served.score_N)]
    return Savings(
        requests=len(logged),
        scored=len(part),
        spent_usd=float(spent_N.sum()),
        unpriced=int(np.isnan(served.cost_usd_N).sum()),
        quality=float(scored_N.mean()) if len(scored_N) else float("nan"),
        aside=aside,
        alternatives=_compared(part, known, choices, np.arange(len(part)), seed),
        parts=_parts(spent_N, rows, part, known, choices, {**(labels or {}), "topic": about}, seed),
    )


def _singles(part: Logged, known: Rewards) -> dict[str, Floats]:
    """The best and the cheapest single expert, by what the log says of each."""
    quality: dict[str, float] = {}
    cost: dict[str, float] = {}
    for expert in part.table.experts:
        found = judge(part, always(part, expert), known, replicates=2, estimators=("dr",))
        if found.refused:
            continue
        quality[expert] = found.values["quality"]["dr"].value
        if "cost" in found.values:
            cost[expert] = found.values["cost"]["dr"].value
    named = {}
    if quality:
        best = max(sorted(quality), key=quality.__getitem__)
        named[f"Always {best}, the best single expert"] = always(part, best)
    if cost:
        cheapest = min(sorted(cost), key=cost.__getitem__)
        named[f"Always {cheapest}, the cheapest expert"] = always(part, cheapest)
    return named


def _compared(
    part: Logged,
    known: Rewards,
    choices: Mapping[str, Floats],
    rows: npt.NDArray[np.intp],
    seed: int,
) -> tuple[Alternative, ...]:
    logged = part.take(rows)
    some = Rewards(
        known.score_NA[rows],
        known.cost_NA[rows],
        known.score_model_NA[rows],
        known.cost_model_NA[rows],
    )
    return tuple(
        _alternative(
            name,
            judge(
                logged, target_NA[rows], some, seed=seed, replicates=_REPLICATES, estimators=("dr",)
            ),
        )
        for name, target_NA in choices.items()
    )


def _alternative(name: str, found: Judgement) -> Alternative:
    if found.refused:
        return Alternative(name, refused=found.refused)
    quality, gain = found.values["quality"]["dr"], found.gains["quality"]
    quality_ci = (
        None if gain.bootstrap is None else Interval(-gain.bootstrap.high, -gain.bootstrap.low)
    )
    if "cost" not in found.values or not found.values["cost"]["dr"].value > 0:
        why = ("costs are unknown, or it would have cost nothing",)
        return Alternative(
            name, quality=quality.value, quality_gain=-gain.value, quality_gain_ci=quality_ci,
            refused=why,
        )  # fmt: skip
    cost, more = found.values["cost"]["dr"].value, found.gains["cost"]
    saved_ci = (
        None
        if more.bootstrap is None
        else Interval(more.bootstrap.low / cost, more.bootstrap.high / cost)
    )
    return Alternative(
        name, cost, quality.value, more.value / cost, saved_ci, -gain.value, quality_ci
    )


def _parts(
    spent_N: Floats,
    rows: npt.NDArray[np.intp],
    part: Logged,
    known: Rewards,
    choices: Mapping[str, Floats],
    labels: Mapping[str, Sequence[str | None]],
    seed: int,
) -> tuple[PartSavings, ...]:
    found = []
    for label, values in labels.items():
        values_N = np.array(values, dtype=object)
        for value in sorted({value for value in values if value is not None}):
            all_N = values_N == value
            inside = np.flatnonzero(all_N[rows])
            found.append((int(all_N.sum()), label, value, float(spent_N[all_N].sum()), inside))
    found.sort(key=lambda each: (-each[0], each[1], each[2]))
    return tuple(
        PartSavings(label, value, count, spent, _compared(part, known, choices, inside, seed))
        for count, label, value, spent, inside in found[:_MOST_PARTS]
    )


def _json(each: Alternative) -> dict[str, Any]:
    return {
        "name": each.name,
        "cost_usd": each.cost_usd,
        "quality": each.quality,
        "saved": each.saved,
        "saved_ci95": None if each.saved_ci is None else each.saved_ci.as_list(),
        "quality_gain": each.quality_gain,
        "quality_gain_ci95": (
            None if each.quality_gain_ci is None else each.quality_gain_ci.as_list()
        ),
        "refused": list(each.refused),
        "sentence": each.sentence,
    }


def _share(value: float, interval: Interval | None) -> str:
    if interval is None:
        return f"{value:.0%}"
    return f"{value:.0%} (95 % interval {interval.low:.0%} to {interval.high:.0%})"


def _points(gain: float, interval: Interval | None) -> str:
    way = "higher" if gain >= 0 else "lower"
    words = f"{100 * abs(gain):.1f} points {way}"
    if interval is None:
        return words
    return f"{words} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
