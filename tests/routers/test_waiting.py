"""A sleeping expert costs its wake: whether that outweighs its quality is the asker's to say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from routers.eligible import Constraints
from routers.errors import NoEligibleExpertError
from routers.explaining.explain import explain
from routers.records import Decision, Preference
from routers.router import untrained_router

CARDS = [
    ExpertCard("awake", prices=Prices(1, 2), quality_prior=0.6),
    ExpertCard("asleep", prices=Prices(1, 2), quality_prior=0.8),
]


def decide(max_latency_s: float | None = None, **preference: Any) -> Decision:
    return untrained_router("r").decide(
        ChatRequest((Message("user", "Hi"),)),
        CARDS,
        preference=Preference(**preference),
        policy_name="mine",
        constraints=Constraints(max_latency_s=max_latency_s),
        unhealthy={},
        uniform=0.5,
        waits_s={"asleep": 40.0},
    )


def test_the_better_one_is_woken_where_waiting_costs_nothing_and_not_where_it_costs_much() -> None:
    assert decide(wait_weight=0.0).expert == "asleep"
    # 40 s at 0.002 points a second are 0.08 points, at 0.01 they are 0.4; it is 0.2 better.
    assert decide().expert == "asleep"
    dear = decide(wait_weight=0.01)
    assert dear.expert == "awake"
    np.testing.assert_allclose(dear.utility_A, [0.8 - 0.4, 0.6])


def test_whoever_is_waited_for_is_flagged_and_the_wait_is_in_the_explanation() -> None:
    decision = decide()
    assert "waits:asleep" in decision.flags
    assert "40.0 s until it can begin" in explain(decision)
    assert not any(flag.startswith("waits") for flag in decide(wait_weight=0.01).flags)


def test_a_wait_counts_against_the_ceiling_on_latency() -> None:
    decision = decide(max_latency_s=5.0, wait_weight=0.0)
    assert decision.expert == "awake"
    assert decision.excluded["asleep"] == (
        "expected to take 40 s, 40 s of it waiting, the ceiling is 5 s"
    )
    with pytest.raises(NoEligibleExpertError):
        untrained_router("r").decide(
            ChatRequest((Message("user", "Hi"),)),
            CARDS[1:],
            preference=Preference(),
            policy_name="mine",
            constraints=Constraints(max_latency_s=5.0),
            unhealthy={},
            uniform=0.5,
            waits_s={"asleep": 40.0},
        )
