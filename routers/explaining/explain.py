"""A decision in a few plain sentences for people."""

from __future__ import annotations

import numpy as np

from routers.records import Candidates, Decision


def explain(decision: Decision) -> str:
    """Why this expert, with the figures that settled it, and why not the excluded ones."""
    ranked = decision.ranked()
    sentence = f"{decision.expert} {_how(decision)}: {_figures(decision, decision.expert)}"
    if len(ranked) > 1:
        sentence += f"; {ranked[1]} has {_figures(decision, ranked[1])}"
    else:
        sentence += "; no other expert can serve this request"
    return f"{sentence}.{_excluded(decision)}"


def _how(decision: Decision) -> str:
    if decision.propensity < decision.probabilities_A.max():
        return f"was drawn to explore, which had probability {decision.propensity:.3g}"
    return f"was chosen for {decision.policy!r}"


def _figures(decision: Decision, expert: str) -> str:
    candidates = decision.candidates
    index = candidates.experts.index(expert)
    cost, seconds = float(candidates.cost_usd_A[index]), float(candidates.latency_s_A[index])
    quality, stderr = candidates.quality_A[index], candidates.stderr_A[index]
    figures = [
        f"expected quality {quality:.2f} ± {stderr:.2f}",
        "cost unknown" if np.isnan(cost) else f"cost ${cost:.2g}",
        *([] if np.isnan(seconds) else [f"{seconds:.1f} s"]),
        *_wait(candidates, index),
        f"utility {decision.utility_A[index]:.3f}",
    ]
    return ", ".join(figures)


def _wait(candidates: Candidates, index: int) -> list[str]:
    wait_s = 0.0 if candidates.wait_s_A is None else float(candidates.wait_s_A[index])
    return [f"{wait_s:.1f} s until it can begin"] if wait_s else []


def _excluded(decision: Decision) -> str:
    if not decision.excluded:
        return ""
    reasons = "; ".join(f"{expert}: {why}" for expert, why in sorted(decision.excluded.items()))
    return f" Not eligible were {reasons}."
