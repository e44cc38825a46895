"""What to do with a canary: promote it, take it back, or wait."""

from __future__ import annotations

from collections.abc import Sequence as Names
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from eval.promotion.sequential import Sequence, difference_so_far, surely_above
from routers.records import Floats

Step = Literal["promote", "roll back", "wait"]


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """When a canary has shown enough.

    Attributes:
        share: Of the traffic, in (0, 1).
        most_loss: Utility that the canary may lose at worst, in quality points.
        most_scored: Scored requests after which it must have been shown; else it is taken back.
        most_failures: How much larger the canary's share of failed requests may be.
    """

    share: float = 0.1
    most_loss: float = 0.02
    most_scored: int = 5000
    most_failures: float = 0.05


class Failures(NamedTuple):
    """What failed on one side, conversation by conversation.

    Attributes:
        failed: Sum over them of the share of their requests that failed.
        asked: How many conversations.
    """

    failed: float
    asked: int

    @property
    def share(self) -> float:
        """Mean of those shares; 0 of none."""
        return self.failed / self.asked if self.asked else 0.0


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What to do, why, and what it rests on."""

    step: Step
    reason: str
    seen: Sequence


def judge_canary(
    reward_N: Floats,
    canary_N: npt.NDArray[np.bool_],
    failed_2: tuple[Failures, Failures],
    rules: CanaryRules,
    groups: Names[str] | None = None,
) -> CanaryVerdict:
    """Look at a canary; any number of looks together are wrong at most one time in twenty.

    Args:
        reward_N: Utility of scored requests, in the order in which they were decided.
        canary_N: Which of them the canary answered.
        failed_2: Of all requests, scored or not, of the canary and of the incumbent.
        rules: When it has shown enough.
        groups: The conversation of each; None: each is one of its own.
    """
    seen = difference_so_far(reward_N, canary_N, rules.share, groups)
    own, other = failed_2
    if surely_above(own.failed, own.asked, other.share + rules.most_failures):
        reason = f"{own.share:.1%} of its requests failed, {other.share:.1%} of the others"
        return CanaryVerdict("roll back", reason, seen)
    if seen.interval is None:
        return CanaryVerdict("wait", f"{seen.canary} scored requests are too few to tell", seen)
    shown = (
        f"{100 * seen.value:+.1f} points of utility "
        f"({100 * seen.interval.low:+.1f} to {100 * seen.interval.high:+.1f}) "
        f"over {seen.canary} of {seen.count} scored requests in {seen.conversations} conversations"
    )
    if seen.interval.low > -rules.most_loss:
        return CanaryVerdict("promote", shown, seen)
    if seen.interval.high < 0:
        return CanaryVerdict("roll back", shown, seen)
    if seen.count >= rules.most_scored:
        reason = f"not shown to be as good within {rules.most_scored} scored requests: {shown}"
        return CanaryVerdict("roll back", reason, seen)
    return CanaryVerdict("wait", shown, seen)
