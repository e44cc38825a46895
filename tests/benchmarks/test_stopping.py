"""Votes that stop are worked out as the gateway would hold them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.composition.stopping import Samples, stopped_vote
from experts.compose.base import Reply
from experts.compose.vote import Ballot
from experts.messages import Completion

RIGHT = (0.8, 0.6, 0.5)
USD = (3.0, 0.5, 2.0)


@pytest.mark.parametrize("alike", [True, False])
def test_what_is_right_and_what_it_costs_is_what_ballots_come_to(alike: bool) -> None:
    """Chances of one question against 20,000 votes on it, asked one after the other."""
    rng = np.random.default_rng(0)
    draws = rng.uniform(size=(20_000, 3)) < RIGHT
    held = [_held(row.tolist(), alike) for row in draws]
    right, usd = np.mean([won for won, _ in held]), np.mean([spent for _, spent in held])
    found = stopped_vote(
        *(Samples(np.array([p]), np.array([usd])) for p, usd in zip(RIGHT, USD, strict=True))
    )
    assert (found.least_N if alike else found.most_N)[0] == pytest.approx(right, abs=0.01)
    if alike:
        assert found.usd_N[0] > usd
    else:
        assert found.usd_N[0] == pytest.approx(usd, abs=0.02)


def _held(right: list[bool], alike: bool) -> tuple[bool, float]:
    """Whether the vote's winner is right, and what was spent."""
    said = ["right" if good else ("wrong" if alike else f"{n}") for n, good in enumerate(right)]
    ballot = Ballot((1.0, 1.0, 1.0))
    for index in range(3):
        ballot.add(Reply(index, "x", (), Completion((), None)))
        so_far = [reply.index for reply in ballot.came]
        names = list(dict.fromkeys(said[index] for index in so_far))
        ballot.count([names.index(said[index]) for index in so_far])
        if ballot.decided:
            break
    asked = len(ballot.came)
    return right[ballot.winner.index], sum(USD[:asked])
