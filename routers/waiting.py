"""What it takes from an expert that it sleeps, or that others wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from routers.records import Candidates

NO_WAITS: Mapping[str, float] = MappingProxyType({})


def with_waits(
    candidates: Candidates, waits_s: Mapping[str, float], wait_weight: float
) -> Candidates:
    """The same candidates, where some can't begin at once.

    The wait is a part of the latency, where that is known, and `wait_weight` quality points per
    second of it are taken from the utility: the effective cost c + v · (queue + wake) of Read-ME
    (Cai et al., 2024), in points instead of dollars, so that it means the same in any pool.

    Args:
        candidates: As they were weighed without a wait.
        waits_s: Expert id to expected seconds until a call would begin, >= 0; 0 if not named.
        wait_weight: See `Preference`.
    """
    if not waits_s:
        return candidates
    wait_s_A = np.array([waits_s.get(name, 0.0) for name in candidates.experts])
    if not wait_s_A.any():
        return candidates
    return replace(
        candidates,
        latency_s_A=candidates.latency_s_A + wait_s_A,
        penalty_A=candidates.penalty_A + wait_weight * wait_s_A,
        wait_s_A=wait_s_A,
    )
