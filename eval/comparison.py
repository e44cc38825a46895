"""What a comparison found, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from eval.metrics.calibration import Calibration
from eval.metrics.intervals import Interval, Spread
from eval.metrics.pairs import Pair
from eval.metrics.robustness import Robustness
from eval.replay.oracles import RecallRow


@dataclass(frozen=True, slots=True)
class Point:
    """One setting on the cost–quality plane.

    Attributes:
        setting: Its cost weight, or another knob's value; None where there is no knob.
        quality: Mean score in [0, 1].
        cost_usd: Mean dollars per query; NaN unknown.
        share: Expert to its share of the queries; those with none are left out.
        latency_s: Mean seconds per query; NaN unknown.
        unobserved: Queries left out because the chosen expert's score is unknown.
        ci95: `quality` and `cost_usd` to their 95 % intervals.
    """

    setting: float | None
    quality: float
    cost_usd: float
    share: Mapping[str, float]
    latency_s: float = math.nan
    unobserved: float = 0.0
    ci95: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slice:
    """A router against the best single expert on the queries of one task.

    Attributes:
        task: Its label.
        count: Queries of it on the test side.
        quality: Of the router.
        best_single: Of the best single expert.
        delta: The difference.
        delta_ci: Its 95 % interval.
        cost_save: Share of the best single expert's cost saved; NaN unknown.
        finding: `wins`, `loses`, `same` or `unclear`.
    """

    task: str
    count: int
    quality: float
    best_single: float
    delta: float
    delta_ci: Interval | None
    cost_save: float
    finding: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a router saves for one who is ready to lose some quality.

    Attributes:
        given_up: Quality one is ready to lose against the best single expert, in [0, 1]; None for
            the setting to run, which should lose none and strikes the best balance.
        point: Index of the setting among the router's points, chosen without the test side.
        delta_quality: What was gained (lost, if negative) on the test side.
        cost_save: Share of the best single expert's cost saved there; NaN unknown.
        ci95: `delta_quality` and `cost_save` to their 95 % intervals.
    """

    given_up: float | None
    point: int
    delta_quality: float
    cost_save: float
    ci95: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Whether a router pays, at a setting chosen without looking at the test side.

    Attributes:
        pays: `yes`, `likely`, `unclear` or `no`.
        sentence: The same in plain words, with figures.
        offers: The setting it is about, then the cheapest for each loss one may be ready for.
        slices: Task by task, the most frequent first.
    """

    pays: str
    sentence: str
    offers: tuple[Offer, ...]
    slices: tuple[Slice, ...]

    @property
    def offer(self) -> Offer:
        """The setting that the verdict is about."""
        return self.offers[0]

    @property
    def loses_on(self) -> tuple[str, ...]:
        """Tasks on which the best single expert is better, its interval clear of 0."""
        return tuple(part.task for part in self.slices if part.finding == "loses")


@dataclass(frozen=True, slots=True)
class RouterResult:
    """One trained router.

    Attributes:
        name: The estimator it is made of.
        fit_s: Seconds to train it.
        decide_us_p50: Median microseconds of one decision, text to expert.
        points: Its sweep over cost weights.
        figures: Headline figures by name; NaN unknown.
        ci95: Figures to their 95 % intervals.
        calibration: Of all predictions; None when nothing could be compared.
        calibration_chosen: Of the predictions for the experts it chose.
        verdict: Whether it pays.
        seconds: Stage of its training and replay to the seconds it took.
        expert_calibration: Expert to how the predictions for it come true.
        recall: How often it is right, by how many experts are.
        robustness: Whether its decisions hold when prompts change; None when not tried.
        policies: What a policy that finds its own setting promises, to what it led to.
    """

    name: str
    fit_s: float
    decide_us_p50: float
    points: tuple[Point, ...]
    figures: Mapping[str, float]
    ci95: Mapping[str, Interval]
    calibration: Calibration | None
    calibration_chosen: Calibration | None
    verdict: Recommendation
    seconds: Mapping[str, float] = field(default_factory=dict)
    expert_calibration: Mapping[str, Calibration] = field(default_factory=dict)
    recall: tuple[RecallRow, ...] = ()
    robustness: Robustness | None = None
    policies: Mapping[str, Point] = field(default_factory=dict)

    @property
    def operating_point(self) -> Point:
        """The setting that the verdict is about."""
        return self.points[self.verdict.offer.point]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Something that needs no trained router.

    Attributes:
        points: One, or a sweep.
        expert: Whose it is, where it is a single expert.
        figures: As a router's, where it has a curve.
        ci95: Figures to their 95 % intervals.
    """

    points: tuple[Point, ...]
    expert: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    ci95: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def point(self) -> Point:
        """Its only point, or the first of highest quality."""
        return max(
            self.points, key=lambda point: -1.0 if math.isnan(point.quality) else point.quality
        )


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """A result measured elsewhere, e.g. through the running endpoint.

    Attributes:
        name: What it is called in the table and the picture.
        quality: Mean score in [0, 1].
        cost_usd: Mean dollars per query; None unknown.
        share: Expert to its share of the queries.
        ci95: `quality` and `cost_usd` to (low, high).
    """

    name: str
    quality: float
    cost_usd: float | None
    share: Mapping[str, float] = field(default_factory=dict)
    ci95: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AtPrice:
    """One price of quality; utilities are quality − weight · cost / the dearest expert's cost.

    Attributes:
        weight: Quality points that one mean request to the dearest expert costs.
        fixed: The best fixed choice, expert or composition, on the training rows.
        fixed_utility: Its utility, as a figure with its 95 % interval like all that follow.
        single_utility: Of a router over single experts.
        router_utility: Of the router over all, with caution.
        plain_utility: Of the same without.
        over_fixed: The router's gain over the fixed choice, paired.
        over_singles: Over the router of single experts, paired.
        shares: What the router picks: kind to its share of the requests, the most frequent first.
    """

    weight: float
    fixed: str
    fixed_utility: Spread
    single_utility: Spread
    router_utility: Spread
    plain_utility: Spread
    over_fixed: Spread
    over_singles: Spread
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Routers, baselines and single experts, judged by the same queries.

    Attributes:
        data: Where the queries come from and how many, JSON-able.
        seed: Source of all randomness.
        routers: In the order asked for.
        baselines: By name: best_single, cheapest, random, zero_router, task_oracle,
            task_hindsight, prompt_length, oracle; those that the data does not allow are absent.
        singles: Every expert alone.
        recommended: Name of the router to run, chosen on the training side.
        headline: The finding in one sentence.
        notes: What a reader must know of the data, as whole sentences.
        measured: Further points, measured elsewhere.
        seconds: Stage of the comparison to the seconds it took.
        pairs: Routers that were tested against each other.
        at_prices: The recommended router over experts and compositions against the best fixed one
            of them, where compositions were offered.
    """

    data: Mapping[str, Any]
    seed: int
    routers: tuple[RouterResult, ...]
    baselines: Mapping[str, Baseline]
    singles: Mapping[str, Baseline]
    recommended: str
    headline: str
    notes: tuple[str, ...]
    measured: tuple[MeasuredPoint, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    at_prices: tuple[AtPrice, ...] = ()

    @property
    def costs_known(self) -> bool:
        """Whether costs were compared."""
        return bool(self.data["costs_known"])

    def router(self, name: str) -> RouterResult:
        """The router of that name."""
        return next(router for router in self.routers if router.name == name)

    def with_measured(self, *points: MeasuredPoint) -> Comparison:
        """The same comparison with further points."""
        return replace(self, measured=(*self.measured, *points))
