"""Whether a log can tell anything of a candidate at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eval.ope.logged import Logged
from eval.ope.values import Parts
from routers.records import Floats

LEAST_EFFECTIVE = 100.0
MOST_WEIGHT = 50.0
MOST_OF_ROWS = 0.05
"""Share of all scored requests that one may count as, where that is more than `MOST_WEIGHT`."""
MOST_UNSUPPORTED = 0.01
"""Share of the candidate's traffic that may go where the log has never been."""


@dataclass(frozen=True, slots=True)
class Support:
    """How much of what the candidate would do was ever tried.

    Attributes:
        rows: Requests with a scored answer.
        effective: (Σw)² / Σw²: how many rows the log is worth for this candidate.
        weight_max: Largest weight of a row.
        weight_mean: Mean weight; 1 is expected, and a value far from it says that recorded
            propensities are wrong.
        weight_mean_stderr: Its standard error.
        unsupported: Share of the candidate's traffic on choices without any chance in the log.
        never: Experts that the candidate asks and the log never observed, with that share.
    """

    rows: int
    effective: float
    weight_max: float
    weight_mean: float
    weight_mean_stderr: float
    unsupported: float
    never: Mapping[str, float]

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why no value can be given, as whole sentences; none when it can."""
        found = []
        if self.unsupported > MOST_UNSUPPORTED:
            named = ", ".join(f"{expert!r} ({share:.1%})" for expert, share in self.never.items())
            found.append(
                f"{self.unsupported:.1%} of the candidate's traffic goes where the log had no "
                f"chance to go{f': {named}' if named else ''}; explore there first"
            )
        # What is not a number is not enough either.
        if not self.effective >= LEAST_EFFECTIVE:
            found.append(
                f"the {self.rows} scored requests are worth {self.effective:.0f} for this "
                f"candidate; at least {LEAST_EFFECTIVE:.0f} are needed"
            )
        most = max(MOST_WEIGHT, MOST_OF_ROWS * self.rows)
        if not self.weight_max <= most:
            found.append(
                f"one request would count {self.weight_max:.0f} times; at most {most:.0f} is "
                "trusted"
            )
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the value must know, as whole sentences."""
        off = abs(self.weight_mean - 1)
        if off <= 4 * self.weight_mean_stderr or off < 0.02:
            return ()
        return (
            f"weights average {self.weight_mean:.3f} where 1 is expected: the recorded "
            "propensities don't fit what was logged, or scores are missing selectively",
        )


def support(logged: Logged, target_NA: Floats) -> Support:
    """How well `logged` covers a candidate.

    Args:
        logged: Scored rows.
        target_NA: The candidate's choices on them.
    """
    seen_NA = logged.seen
    weight_NA = np.where(seen_NA, target_NA / logged.table.propensity_NA, 0.0)
    weight_N = weight_NA.sum(axis=1)
    total, squares = float(weight_N.sum()), float((weight_N**2).sum())
    rows = len(logged)
    lacking_NA = np.where(logged.supported, 0.0, target_NA)
    share_A = lacking_NA.mean(axis=0)
    never_A = ~seen_NA.any(axis=0) & (share_A > 0)
    return Support(
        rows=rows,
        effective=total**2 / squares if squares else 0.0,
        weight_max=float(weight_N.max(initial=0.0)),
        weight_mean=total / rows if rows else float("nan"),
        weight_mean_stderr=float(weight_N.std(ddof=1) / np.sqrt(rows))
        if rows > 1
        else float("nan"),
        unsupported=float(lacking_NA.sum() / rows) if rows else 1.0,
        never={
            expert: float(share)
            for expert, share, gone in zip(logged.table.experts, share_A, never_A, strict=True)
            if gone
        },
    )


def bound(parts: Parts) -> float:
    """How far apart two rows' contributions to DR can be when rewards lie in [0, 1]."""
    return 1.0 + 2.0 * float(parts.row_weights.max(initial=0.0))
