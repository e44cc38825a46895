"""Says in plain words whether a router pays, with the intervals that the claim rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.comparison import Offer, Recommendation, RouterResult, Slice
from eval.metrics.curves import relative
from eval.metrics.differences import compared, is_logged
from eval.metrics.intervals import ClusterBootstrap, Interval, percentile_interval, ratio
from eval.metrics.slices import slices
from eval.replay.operating import Setting
from eval.replay.replay import ReplayedTraffic
from eval.report.wordings import percent, percent_range, points, points_range
from routers.records import OutcomeTable

MARGIN = 0.01
"""Quality that counts as none lost: one point of a hundred."""

_BEARABLE_LOSS = 0.02
_GOOD_DEAL = 0.1


@dataclass(frozen=True, slots=True)
class Rival:
    """What a router has to beat: the best single expert, and what asking it always led to."""

    expert: str
    traffic: ReplayedTraffic


@dataclass(frozen=True, slots=True)
class _Facts:
    quality: float
    best_quality: float
    offer: Offer

    @property
    def delta_ci(self) -> Interval | None:
        return self.offer.ci95.get("delta_quality")

    @property
    def save_ci(self) -> Interval | None:
        return self.offer.ci95.get("cost_save")

    @property
    def grade(self) -> str:
        """`better`, `as good` (within the margin), `worse`, or `unclear`."""
        if self.delta_ci is None:
            return "unclear"
        if self.delta_ci.low > 0:
            return "better"
        if self.delta_ci.high < 0:
            return "worse"
        return "as good" if self.delta_ci.low >= -MARGIN else "unclear"

    @property
    def cheaper(self) -> bool:
        return self.save_ci is not None and self.save_ci.low > 0

    @property
    def dearer(self) -> bool:
        return self.save_ci is not None and self.save_ci.high < 0


def judge(
    name: str,
    table: OutcomeTable,
    traffic: Sequence[ReplayedTraffic],
    settings: Sequence[Setting],
    rival: Rival,
    bootstrap: ClusterBootstrap,
) -> Recommendation:
    """Judge a router on the test side at the settings that training chose.

    `yes`: cheaper, with an interval of quality that stays above minus one point; or better at no
    higher cost. `likely`: cheaper and no worse by the mean, but the interval reaches lower. `no`:
    worse, or neither better nor cheaper. `unclear`: anything else.

    Args:
        name: The router.
        table: The test side.
        traffic: What each setting of it led to.
        settings: Which ones it may run at; the verdict is about the first.
        rival: What it has to beat.
        bootstrap: Over the groups of `table`.
    """
    chosen, logged = traffic[settings[0].index], is_logged(table)
    offers = [_offer(each, traffic[each.index], rival, logged, bootstrap) for each in settings]
    means = compared(chosen, rival.traffic, "quality", logged=logged).means
    facts = _Facts(*means, offers[0])
    only = _only_expert(chosen, table)
    pays = "no" if only == rival.expert else _pays(facts)
    return Recommendation(
        pays=pays,
        sentence=_sentence(name, facts, rival.expert, only),
        offers=tuple(offers),
        slices=slices(table, chosen, rival.traffic, bootstrap),
    )


def _offer(
    setting: Setting,
    traffic: ReplayedTraffic,
    rival: Rival,
    logged: bool,
    bootstrap: ClusterBootstrap,
) -> Offer:
    quality = compared(traffic, rival.traffic, "quality", logged=logged)
    cost = compared(traffic, rival.traffic, "cost", logged=logged)
    save = relative(-cost.difference, cost.means[1])
    known = {"delta_quality": quality.interval(bootstrap)}
    if not math.isnan(save):
        cost_B2 = cost.replicates(bootstrap)
        known["cost_save"] = percentile_interval(1 - ratio(cost_B2[:, 0], cost_B2[:, 1]))
    ci95 = {name: interval for name, interval in known.items() if interval is not None}
    return Offer(setting.given_up, setting.index, quality.difference, save, ci95)


def _pays(facts: _Facts) -> str:
    if facts.grade == "worse":
        return "no"
    if facts.grade == "better":
        return "unclear" if facts.dearer else "yes"
    if math.isnan(facts.offer.cost_save):
        return "unclear"
    if not facts.cheaper:
        return "no"
    if facts.grade == "as good":
        return "yes"
    return "likely" if facts.offer.delta_quality >= 0 else "unclear"


def _only_expert(traffic: ReplayedTraffic, table: OutcomeTable) -> str | None:
    top = int(traffic.share_A.argmax())
    return table.experts[top] if traffic.share_A[top] > 1 - 1e-9 else None


def _sentence(name: str, facts: _Facts, best: str, only: str | None) -> str:
    if only == best:
        return f"{name} sends everything to {best}, the best single expert: nothing is gained."
    claim = {
        "better": "is better than",
        "as good": "is as good as",
        "worse": "is worse than",
        "unclear": "is neither clearly better nor clearly worse than",
    }[facts.grade]
    offer = facts.offer
    gained = f"{points(offer.delta_quality)} points{_interval(points_range(facts.delta_ci))}"
    quality = f"quality {percent(facts.quality)} against {percent(facts.best_quality)}: {gained}"
    return f"{name} {claim} always asking {best} ({quality}){_cost(facts)}."


def _cost(facts: _Facts) -> str:
    save, interval = facts.offer.cost_save, facts.save_ci
    if math.isnan(save):
        return "; what it costs is unknown"
    if save < 0 and interval is not None:
        interval = Interval(-interval.high, -interval.low)
    which = "lower" if save >= 0 else "higher"
    known = _interval(percent_range(interval, 0), " (", ")")
    return f" at {percent(abs(save), 0)} {which} cost{known}"


def _interval(text: str, start: str = ", ", end: str = "") -> str:
    return f"{start}95% interval {text}{end}" if text else ""


def recommend(settings: Mapping[str, Setting]) -> str:
    """The router to run: the best balance among those that held their quality in training.

    Where none held it, the one that came nearest; nothing of the test side is looked at.
    """

    def rank(name: str) -> tuple[bool, float]:
        setting = settings[name]
        gain = -1.0 if math.isnan(setting.quality_gain) else setting.quality_gain
        return (setting.safe, setting.balance if setting.safe else gain)

    return max(settings, key=rank)


def headline(router: RouterResult) -> str:
    """The finding on the recommended router in one or two sentences."""
    opening = {
        "yes": "Routing pays here",
        "likely": "Routing probably pays here",
        "unclear": "Whether routing pays here is unclear",
        "no": "Routing does not pay here",
    }[router.verdict.pays]
    lost = [part for part in router.verdict.slices if part.finding == "loses"]
    text = f"{opening}: {router.verdict.sentence}{_losses(lost)}"
    return text if router.verdict.pays in ("yes", "likely") else text + _thrifty(router)


def _thrifty(router: RouterResult) -> str:
    """The smallest bearable loss that saves a good deal more."""
    enough = _GOOD_DEAL + np.nan_to_num(router.verdict.offer.cost_save)
    for offer in router.verdict.offers[1:]:
        if 0 < (offer.given_up or 0) <= _BEARABLE_LOSS and offer.cost_save >= enough:
            return (
                f" For those ready to lose up to {100 * (offer.given_up or 0):g} points, another "
                f"setting saves {percent(offer.cost_save, 0)} of the cost "
                f"({points(offer.delta_quality)} points here)."
            )
    return ""


def _losses(lost: Sequence[Slice]) -> str:
    if not lost:
        return ""
    worst = sorted(lost, key=lambda part: part.delta)
    named = ", ".join(f"“{part.task}” ({points(part.delta)})" for part in worst[:5])
    return f" It loses on {named}{', and more' if len(worst) > 5 else ''}."
