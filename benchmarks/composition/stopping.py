"""Part a, second way: votes of three that stop at two, of which one or two are the strong model.

One chain of thought and one program of the strong model, and between them an answer of the weak
one: where the first two agree the third is never asked for. As a configuration:
`{vote: {of: [strong, weak, strong], at_once: 1}}`, with the prompts as experts of their own.

The file says of each question how many samples are right and how many give the majority's answer,
not what they say. Which right answers agree follows; whether two wrong ones of different prompts
do is unknown. So everything is worked out twice: wrong answers always alike, which is the least
that is right, and never alike, which is the most that it costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from routers.records import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What is known of one prompt's answers to N questions.

    Attributes:
        right_N: P(right): the share of samples that are, or 1 and 0 of their majority.
        usd_N: Dollars of one answer.
    """

    right_N: Floats
    usd_N: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Stopped:
    """What a vote of three comes to.

    Attributes:
        least_N: P(right) if two wrong answers always agree.
        most_N: P(right) if they never do.
        usd_N: Dollars if they never do, which is the most.
    """

    least_N: Floats
    most_N: Floats
    usd_N: Floats


def stopped_vote(first: Samples, second: Samples, third: Samples) -> Stopped:
    """Asked in this order; among three that differ the first one's answer is given."""
    least_N, _ = _vote(first, second, third, alike=1.0)
    most_N, usd_N = _vote(first, second, third, alike=0.0)
    return Stopped(least_N, most_N, usd_N)


def _vote(first: Samples, second: Samples, third: Samples, alike: float) -> tuple[Floats, Floats]:
    right_N, usd_N = np.zeros((2, len(first.right_N)))
    for one, two, three in product((True, False), repeat=3):
        chance_N = np.ones(len(right_N))
        for samples, is_right in zip((first, second, third), (one, two, three), strict=True):
            chance_N *= samples.right_N if is_right else 1 - samples.right_N
        stops = _agree(one, two, alike)
        # Two right ones win; else the first one's answer does if no two wrong ones agree.
        wins = 1.0 if one + two + three >= 2 else (1 - alike if one else 0.0)
        right_N += chance_N * wins
        usd_N += chance_N * (first.usd_N + second.usd_N + (1 - stops) * third.usd_N)
    return right_N, usd_N


def _agree(one: bool, two: bool, alike: float) -> float:
    if one and two:
        return 1.0
    return 0.0 if one or two else alike
