"""A policy that fails costs a flag, and what was spent meanwhile is still told."""

from __future__ import annotations

from typing import Any

import pytest

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Message
from gateway.execution.health import Health
from gateway.routing.batching import Batcher, Case
from routers.eligible import Constraints
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import FAILED, Decision, Floats, Preference
from routers.router import untrained_router

CARDS = [ExpertCard("a", quality_prior=0.9), ExpertCard("b", quality_prior=0.2)]


class Broken(GreedyUtilityPolicy):
    def distribution(self, *_given: Any) -> tuple[Floats, Floats]:
        raise ZeroDivisionError


@pytest.mark.parametrize(("default", "expert"), [("b", "b"), (None, "a"), ("gone", "a")])
def test_the_default_answers_for_certain_where_a_policy_fails(
    default: str | None, expert: str
) -> None:
    spent: list[float] = []
    request = ChatRequest((Message("user", "Hi"),))
    broken = Case(
        request, "mine", Preference(), Constraints(), 0.99, Broken(), spent.append, ("told",)
    )
    batch = Batcher(CARDS, Health(), default, within_s=30)
    found = batch._answer(untrained_router("default", epsilon=0.5), broken, {}, {})
    assert isinstance(found, Decision)
    assert (found.expert, found.flags) == (expert, ("untrained", "told", FAILED))
    assert found.propensity == 1.0
    assert sorted(found.probabilities_A) == [0.0, 1.0]
    assert found.settle is not None
    found.settle(0.25)
    assert spent == [0.25]
