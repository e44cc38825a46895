"""How far curves stay from the Pareto front of all that is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.metrics.figures import Levels
from routers.records import Floats


def pareto_distances(
    curves: Mapping[str, Levels], others: Sequence[Levels]
) -> dict[str, tuple[float, float]]:
    """Mean distance of each curve's points from the front, in [0, √2], 0 best.

    Both axes are scaled to [0, 1] by the lowest and highest value of all points. The front is the
    line through the points that no other is both cheaper and better than. A curve that makes up
    the front is at distance 0 from itself, which says nothing: hence a second figure, from the
    front of everything but the curve itself, in the same scale. A curve that lies beyond that
    front is far from it too, so it says how different a curve is and not how good.

    Args:
        curves: Name to the points of a router.
        others: Points that count for the front and have no distance of their own.

    Returns:
        Name to both distances; NaN where costs or qualities are unknown or all alike.

    Source: the ParetoDist of LLMRouterBench, whose scale is not published; this one is ours.
    """
    parts = {name: _points(curve) for name, curve in curves.items()}
    rest = [_points(each) for each in others]
    everything_P2 = np.concatenate([*parts.values(), *rest]) if curves else np.zeros((0, 2))
    if not len(everything_P2) or (np.ptp(everything_P2, axis=0) == 0).any():
        return dict.fromkeys(curves, (float("nan"), float("nan")))
    low_2, span_2 = everything_P2.min(axis=0), np.ptp(everything_P2, axis=0)
    scaled = {name: (part - low_2) / span_2 for name, part in parts.items()}
    scaled_rest = [(part - low_2) / span_2 for part in rest]
    front_F2 = _front(np.concatenate([*scaled.values(), *scaled_rest]))
    found = {}
    for name, part_P2 in scaled.items():
        without = [each for other, each in scaled.items() if other != name]
        own = _distance(part_P2, front_F2)
        found[name] = own, _distance(part_P2, _front(np.concatenate([*without, *scaled_rest])))
    return found


def _points(levels: Levels) -> Floats:
    both_P2 = np.stack([levels.cost_K, levels.quality_K], axis=1)
    known: Floats = both_P2[~np.isnan(both_P2).any(axis=1)]
    return known


def _front(points_P2: Floats) -> Floats:
    """The points that none is both cheaper and better than, by rising cost."""
    order = np.lexsort((-points_P2[:, 1], points_P2[:, 0]))
    sorted_P2 = points_P2[order]
    before_P = np.maximum.accumulate(np.append(-np.inf, sorted_P2[:-1, 1]))
    front: Floats = sorted_P2[sorted_P2[:, 1] > before_P]
    return front


def _distance(points_P2: Floats, front_F2: Floats) -> float:
    """Mean distance of points from the line through `front_F2`."""
    if not len(points_P2) or not len(front_F2):
        return float("nan")
    start_S2 = front_F2[:-1] if len(front_F2) > 1 else front_F2
    step_S2 = np.diff(front_F2, axis=0) if len(front_F2) > 1 else np.zeros_like(front_F2)
    away_PS2 = points_P2[:, None] - start_S2
    along_PS = (away_PS2 * step_S2).sum(axis=2) / np.maximum((step_S2**2).sum(axis=1), 1e-300)
    nearest_PS2 = np.clip(along_PS, 0, 1)[..., None] * step_S2
    return float(np.sqrt(((away_PS2 - nearest_PS2) ** 2).sum(axis=2)).min(axis=1).mean())
