"""The gate: whether a trained router may be tried on live requests, by what the log says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from eval.ope.judge import Judgement
from eval.ope.spread import stderr
from eval.ope.values import RatioTerms
from routers.records import Floats


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a candidate must show.

    Attributes:
        level: How sure, one-sided.
        most_quality_loss: Quality that may be lost against what serves, in [0, 1].
        most_ece: How far expected quality may be from observed quality on the chosen expert.
        most_slice_loss: Quality that may be lost on any slice.
        fewest_in_slice: Scored decisions that a slice needs to be looked at.
        most_decide_us: Microseconds that a decision may take at the median.
    """

    level: float = 0.95
    most_quality_loss: float = 0.01
    most_ece: float = 0.1
    most_slice_loss: float = 0.03
    fewest_in_slice: int = 50
    most_decide_us: float = 5_000.0


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that the gate looked at."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gate says.

    Attributes:
        checks: In the order in which they are made; all of them, whatever failed before.
        against: What the candidate was compared with; "" where it could not be.
    """

    checks: tuple[Criterion, ...]
    against: str = ""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Why it did not pass, or what it showed."""
        told = "; ".join(check.reason for check in self.checks if not check.passed or self.passed)
        return f"against {self.against}: {told}" if self.against else told


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the gate looks at.

    Attributes:
        judgement: Off-policy, by routers fitted on other conversations than those they are judged
            by; else a candidate would be judged by what it has learned by heart.
        against: What it was compared with, in words.
        gain_N: The candidate's quality less that of what served, row by row, in the same way.
        groups: The conversation of each of those rows.
        slices: Name to which of them are in it.
        expected_N: Quality that the candidate expects of the expert it would ask.
        score_N: What that expert scored where the log asked it too; NaN elsewhere.
        weight_N: How much each such row counts.
        decide_us: Median microseconds of one decision.
    """

    judgement: Judgement
    against: str
    gain_N: Floats
    groups: Sequence[str]
    expected_N: Floats
    score_N: Floats
    weight_N: Floats
    decide_us: float
    slices: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


def gate(evidence: Evidence, rules: GateRules) -> GateVerdict:
    """Look at everything and say whether the candidate may be tried."""
    judgement = evidence.judgement
    if judgement.refused:
        return GateVerdict((Criterion("evidence", False, "; ".join(judgement.refused)),))
    return GateVerdict(
        (
            Criterion(
                "evidence", True, f"worth {judgement.support.effective:.0f} scored decisions"
            ),
            _better(judgement, rules),
            _quality(judgement, rules),
            _calibration(evidence, rules),
            _slices(evidence, rules),
            _latency(evidence, rules),
        ),
        evidence.against,
    )


def _better(judgement: Judgement, rules: GateRules) -> Criterion:
    gain = judgement.gains.get("utility", judgement.gains["quality"])
    low = gain.value - float(norm.ppf(rules.level)) * gain.stderr
    reason = f"utility {100 * gain.value:+.1f} points, at least {100 * low:+.1f}"
    return Criterion("improvement", low > 0, reason)


def _quality(judgement: Judgement, rules: GateRules) -> Criterion:
    gain = judgement.gains["quality"]
    low = gain.value - float(norm.ppf(rules.level)) * gain.stderr
    reason = (
        f"quality {100 * gain.value:+.1f} points, at least {100 * low:+.1f}, may lose "
        f"{100 * rules.most_quality_loss:g}"
    )
    return Criterion("quality", low >= -rules.most_quality_loss, reason)


def _calibration(evidence: Evidence, rules: GateRules) -> Criterion:
    known_N = ~np.isnan(evidence.score_N) & (evidence.weight_N > 0)
    if not known_N.any():
        return Criterion("calibration", False, "no scored decision has the candidate's choice")
    error = _ece(
        evidence.expected_N[known_N], evidence.score_N[known_N], evidence.weight_N[known_N]
    )
    reason = f"expected quality is off by {error:.3f} beyond chance on the expert it would ask"
    return Criterion("calibration", error <= rules.most_ece, reason)


def _ece(expected_N: Floats, score_N: Floats, weight_N: Floats, bins: int = 10) -> float:
    bin_N = np.minimum((expected_N * bins).astype(int), bins - 1)
    gap_B = np.bincount(bin_N, weight_N * (score_N - expected_N), bins)
    # Few scores are off by chance: of each bin only what is beyond a standard error counts.
    chance_B = np.sqrt(np.bincount(bin_N, weight_N**2 * expected_N * (1 - expected_N), bins))
    return float(np.maximum(np.abs(gap_B) - chance_B, 0.0).sum() / weight_N.sum())


def _slices(evidence: Evidence, rules: GateRules) -> Criterion:
    looked_at = {
        name: rows
        for name, rows in evidence.slices.items()
        if np.count_nonzero(rows) >= rules.fewest_in_slice
    }
    if not looked_at:
        return Criterion("slices", True, "no slice has enough scored decisions to be looked at")
    # As many chances of a false alarm as there are slices: each is asked for more.
    sure = float(norm.ppf(1 - (1 - rules.level) / len(looked_at)))
    lost = []
    groups_N = np.array(evidence.groups, dtype=object)
    for name, rows in looked_at.items():
        gain_S = evidence.gain_N[rows]
        spread = stderr(RatioTerms(gain_S, np.ones_like(gain_S)), groups_N[rows].tolist())
        high = float(gain_S.mean()) + sure * spread
        if high < -rules.most_slice_loss:
            lost.append(f"{name} loses {-100 * float(gain_S.mean()):.1f} points")
    reason = ", ".join(lost) or f"none of {len(looked_at)} slices gets clearly worse"
    return Criterion("slices", not lost, reason)


def _latency(evidence: Evidence, rules: GateRules) -> Criterion:
    reason = f"a decision takes {evidence.decide_us:.0f} µs"
    return Criterion("latency", evidence.decide_us <= rules.most_decide_us, reason)
