"""A comparison as metrics.json holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from eval.comparison import Baseline, Comparison, MeasuredPoint, Offer, Point, RouterResult, Slice
from eval.metrics.calibration import Calibration
from eval.metrics.intervals import Interval
from eval.metrics.pairs import Difference, Pair
from eval.metrics.robustness import Robustness

_BASELINES = ("best_single", "cheapest", "random", "zero_router", "task_oracle", "oracle")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as metrics.json holds it: unknown figures are null, intervals are pairs."""
    found = {
        "data": {**comparison.data, "notes": list(comparison.notes)},
        "seed": comparison.seed,
        "headline": comparison.headline,
        "recommended": comparison.recommended,
        "routers": {router.name: _router_json(router) for router in comparison.routers},
        "baselines": _baselines_json(comparison.baselines),
        "singles": {name: _baseline_json(b) for name, b in comparison.singles.items()},
        "measured": [_measured_json(point) for point in comparison.measured],
        "seconds": comparison.seconds,
        "pairs": [_pair_json(pair) for pair in comparison.pairs],
        "at_prices": [asdict(each) for each in comparison.at_prices],
    }
    return {name: _clean(value) for name, value in found.items()}


def _baselines_json(baselines: Mapping[str, Baseline]) -> dict[str, Any]:
    """Those that everybody asks for are null where the data does not allow them."""
    return dict.fromkeys(_BASELINES) | {name: _baseline_json(b) for name, b in baselines.items()}


def _router_json(router: RouterResult) -> dict[str, Any]:
    whole, chosen = router.calibration, router.calibration_chosen
    return {
        "fit_s": router.fit_s,
        "decide_us_p50": router.decide_us_p50,
        **router.figures,
        "ece": whole.ece if whole else None,
        "brier": whole.brier if whole else None,
        "points": [_point_json(point, "lambda") for point in router.points],
        "policies": {
            name: {what: value for what, value in _point_json(point, "").items() if what}
            for name, point in router.policies.items()
        },
        "ci95": _intervals(router.ci95),
        "calibration": {
            "all": _calibration_json(whole),
            "chosen": _calibration_json(chosen),
            "experts": {
                expert: _calibration_json(each)
                for expert, each in router.expert_calibration.items()
            },
        },
        "recall": [
            {"right": row.band, "n": row.count, "quality": row.quality, "random": row.random}
            for row in router.recall
        ],
        "robustness": _robustness_json(router.robustness),
        "verdict": _verdict_json(router),
        "seconds": router.seconds,
    }


def _robustness_json(found: Robustness | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "flips": dict(found.flips),
        "unchanged": found.unchanged,
        "gadget": {
            "target": found.target,
            "before": found.before,
            "after": found.after,
            "success": found.success,
        },
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "quality": _difference_json(pair.quality),
        "cost_usd": _difference_json(pair.cost),
        "aiq": _difference_json(pair.aiq),
        "p_holm": pair.p_holm,
    }


def _difference_json(found: Difference) -> dict[str, Any]:
    interval = None if found.ci95 is None else found.ci95.as_list()
    return {"difference": found.difference, "ci95": interval, "p": found.p}


def _verdict_json(router: RouterResult) -> dict[str, Any]:
    verdict, offer, point = router.verdict, router.verdict.offer, router.operating_point
    return {
        "pays": verdict.pays,
        "sentence": verdict.sentence,
        "lambda": point.setting,
        "quality": point.quality,
        "cost_usd": point.cost_usd,
        "share": dict(point.share),
        "delta_quality": offer.delta_quality,
        "cost_save": offer.cost_save,
        "ci95": _intervals({**point.ci95, **offer.ci95}),
        "trade_offs": [_offer_json(router, each) for each in verdict.offers],
        "loses_on": list(verdict.loses_on),
        "slices": [_slice_json(part) for part in verdict.slices],
    }


def _offer_json(router: RouterResult, offer: Offer) -> dict[str, Any]:
    return {
        "given_up": offer.given_up,
        "lambda": router.points[offer.point].setting,
        "delta_quality": offer.delta_quality,
        "cost_save": offer.cost_save,
        "ci95": _intervals(offer.ci95),
    }


def _slice_json(part: Slice) -> dict[str, Any]:
    return {
        "task": part.task,
        "n": part.count,
        "quality": part.quality,
        "best_single": part.best_single,
        "delta": part.delta,
        "cost_save": part.cost_save,
        "finding": part.finding,
        "ci95": _intervals({"delta": part.delta_ci} if part.delta_ci else {}),
    }


def _baseline_json(baseline: Baseline) -> dict[str, Any]:
    point = baseline.point
    found: dict[str, Any] = {} if baseline.expert is None else {"expert": baseline.expert}
    found |= {
        name: value for name, value in _point_json(point, "setting").items() if name != "setting"
    }
    found |= baseline.figures
    found["ci95"] = _intervals({**point.ci95, **baseline.ci95})
    if len(baseline.points) > 1:
        found["points"] = [_point_json(each, "setting") for each in baseline.points]
    return found


def _point_json(point: Point, setting: str) -> dict[str, Any]:
    return {
        setting: point.setting,
        "quality": point.quality,
        "cost_usd": point.cost_usd,
        "latency_s": point.latency_s,
        "share": dict(point.share),
        "n_unobserved": point.unobserved,
        "ci95": _intervals(point.ci95),
    }


def _measured_json(point: MeasuredPoint) -> dict[str, Any]:
    return {
        "name": point.name,
        "quality": point.quality,
        "cost_usd": point.cost_usd,
        "share": dict(point.share),
        "ci95": {name: list(pair) for name, pair in point.ci95.items()},
    }


def _calibration_json(found: Calibration | None) -> dict[str, Any] | None:
    if found is None:
        return None
    bins = [{"predicted": b.predicted, "observed": b.observed, "n": b.count} for b in found.bins]
    return {
        "ece": found.ece,
        "ece_equal_mass": found.ece_mass,
        "brier": found.brier,
        "brier_skill": found.skill,
        "bins": bins,
    }


def _intervals(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {name: interval.as_list() for name, interval in intervals.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
