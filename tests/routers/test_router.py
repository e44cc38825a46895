"""A whole decision: eligible experts, weighed, drawn, and put in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from routers.candidates import PRIOR_STDERR, Expected
from routers.eligible import Constraints
from routers.encoders.lexical import HashingEncoder
from routers.errors import NoEligibleExpertError, RoutingError
from routers.explaining.explain import explain
from routers.features import Featurizer
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import Decision, Estimates, FeatureBatch, OutcomeTable, Preference, State
from routers.router import Router, untrained_router

NAN = float("nan")
CHEAP, DEAR = Prices(1.0, 2.0), Prices(10.0, 20.0)


class KnownEstimator:
    """Expects the same of every request: `{expert: (quality, output tokens, seconds)}`."""

    name = "known"

    def __init__(self, known: Mapping[str, tuple[float, float, float]]) -> None:
        self.known = known

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        return self

    def predict(self, features: FeatureBatch) -> Estimates:
        rows = np.array(list(self.known.values()), dtype=np.float64).T[:, None, :]
        quality_NA, output_NA, latency_NA = np.repeat(rows, len(features), axis=1)
        stderr_NA = np.full_like(quality_NA, 0.02)
        return Estimates(tuple(self.known), quality_NA, stderr_NA, output_NA, latency_NA)

    def state(self) -> State:
        return {"known": dict(self.known)}, {}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state[0]["known"])


def router(epsilon: float = 0.0, **known: tuple[float, float, float]) -> Router:
    return Router(
        name="default",
        version="abc123",
        featurizer=Featurizer(HashingEncoder(8)),
        estimator=KnownEstimator(known or {"a": (0.7, 100, 1.0), "b": (0.9, 200, 3.0)}),
        policy=GreedyUtilityPolicy(),
        epsilon=epsilon,
        typical_prompt_tokens=1000,
        typical_output_tokens=500,
    )


def pool(**prices: Prices | None) -> list[ExpertCard]:
    named = prices or {"a": CHEAP, "b": DEAR}
    return [ExpertCard(name, prices=price) for name, price in named.items()]


def decide(
    router: Router,
    cards: Sequence[ExpertCard],
    *,
    text: str = "x" * 400,
    max_tokens: int | None = None,
    params: Mapping[str, Any] | None = None,
    uniform: float = 0.5,
    constraints: Constraints | None = None,
    unhealthy: Mapping[str, str] | None = None,
    expected: Expected | None = None,
    **preference: Any,
) -> Decision:
    return router.decide(
        ChatRequest((Message("user", text),), max_tokens, params=params or {}),
        cards,
        preference=Preference(**preference),
        policy_name="mine",
        constraints=constraints or Constraints(),
        unhealthy=unhealthy or {},
        uniform=uniform,
        expected=expected,
    )


def test_costs_are_prices_times_the_prompt_and_the_expected_answer() -> None:
    decision = decide(router(), pool())
    expected = [(100 * 1 + 100 * 2) / 1e6, (100 * 10 + 200 * 20) / 1e6]
    np.testing.assert_allclose(decision.candidates.cost_usd_A, expected)
    assert decision.candidates.cost_scale_usd == pytest.approx((1000 * 10 + 500 * 20) / 1e6)


def test_what_costs_are_measured_against_does_not_depend_on_who_is_eligible() -> None:
    all_able = decide(router(), pool()).candidates
    one_able = decide(router(), pool(), unhealthy={"b": "down"}).candidates
    assert one_able.cost_scale_usd == all_able.cost_scale_usd


def test_a_price_change_needs_no_training() -> None:
    same = router()
    assert decide(same, pool(a=CHEAP, b=DEAR), text="x" * 4000, cost_weight=0.3).expert == "b"
    swapped = decide(same, pool(a=DEAR, b=CHEAP), text="x" * 4000, cost_weight=0.3)
    assert swapped.expert == "b"
    dearer = decide(same, pool(a=CHEAP, b=Prices(30, 60)), text="x" * 4000, cost_weight=0.3)
    assert dearer.expert == "a"


def test_an_answer_is_no_longer_than_the_limits_allow() -> None:
    cards = [ExpertCard("a", prices=CHEAP, max_output_tokens=30), *pool(b=DEAR)]
    bounded = decide(router(), cards, max_tokens=50).candidates
    np.testing.assert_allclose(bounded.output_tokens_A, [30, 50])


def test_several_answers_cost_several_times_the_output() -> None:
    one, three = (decide(router(), pool(), params={"n": n}).candidates for n in (1, 3))
    np.testing.assert_allclose(three.output_tokens_A, 3 * one.output_tokens_A)


def test_a_typical_answer_stands_in_where_none_is_expected() -> None:
    decision = decide(router(a=(0.7, NAN, NAN), b=(0.6, 10, NAN)), pool())
    assert np.isnan(decision.candidates.output_tokens_A[0])
    assert decision.candidates.cost_usd_A[0] == pytest.approx((100 * 1 + 500 * 2) / 1e6)


def test_several_typical_answers_stand_in_for_several() -> None:
    """Else who is little known seems cheaper the more answers are asked for."""
    known = router(a=(0.7, NAN, NAN), b=(0.6, 500, NAN))
    cost_A = decide(known, pool(a=CHEAP, b=CHEAP), params={"n": 4}).candidates.cost_usd_A
    assert cost_A == pytest.approx([(100 * 1 + 4 * 500 * 2) / 1e6] * 2)


def test_what_the_chosen_card_does_not_say_is_flagged() -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    decision = decide(router(), [ExpertCard("a", tools=False), ExpertCard("b")], params=tools)
    assert (decision.expert, decision.flags) == ("b", ("unstated:tools",))
    decision = decide(router(), [ExpertCard("a", tools=True), ExpertCard("b")], params=tools)
    assert (decision.expert, decision.flags) == ("a", ())
    assert decide(router(), pool()).flags == ()


def test_unknown_prices_stay_unknown() -> None:
    decision = decide(router(), pool(a=None, b=DEAR))
    assert np.isnan(decision.candidates.cost_usd_A).tolist() == [True, False]
    assert decide(router(), pool(a=None, b=None)).candidates.cost_scale_usd == 1


def test_an_expert_nobody_has_seen_has_its_cards_prior_and_a_flag() -> None:
    cards = [*pool(), ExpertCard("new", quality_prior=0.95), ExpertCard("odd", quality_prior=0.1)]
    known = router(a=(0.7, 1, 1), b=(0.9, 1, 1), odd=(NAN, 1, 1))
    decision = decide(known, cards)
    assert decision.expert == "new"
    assert decision.candidates.quality_A.tolist() == [0.7, 0.9, 0.95, 0.1]
    assert decision.candidates.stderr_A.tolist() == [0.02, 0.02, PRIOR_STDERR, PRIOR_STDERR]
    assert decision.flags == ("unseen:new", "unseen:odd")


def test_experts_that_left_the_pool_are_not_chosen() -> None:
    assert decide(router(), pool(a=CHEAP)).candidates.experts == ("a",)


def test_exploration_has_the_propensity_that_is_logged() -> None:
    decision = decide(router(epsilon=0.2), pool(), uniform=0.05)
    assert decision.expert == "a"
    assert decision.propensity == pytest.approx(0.1)
    assert decide(router(epsilon=0.2), pool(), uniform=0.11).propensity == pytest.approx(0.9)


def test_experts_below_the_least_quality_are_not_explored() -> None:
    decision = decide(router(epsilon=0.5), pool(), uniform=0.0, min_quality=0.8)
    np.testing.assert_allclose(decision.probabilities_A, [0, 1])


def test_the_same_number_replays_the_same_decision() -> None:
    exploring = router(epsilon=0.5)
    one, two = (decide(exploring, cards, uniform=0.3) for cards in (pool(), pool()[::-1]))
    assert one.expert == two.expert
    assert one.draw == 0.3
    np.testing.assert_array_equal(one.probabilities_A, two.probabilities_A)


def test_reasons_are_kept_for_everybody_who_was_left_out() -> None:
    decision = decide(router(), pool(), unhealthy={"b": "circuit open"})
    assert decision.expert == "a"
    assert decision.excluded == {"b": "circuit open"}


def test_when_nobody_is_left_every_reason_is_told() -> None:
    with pytest.raises(NoEligibleExpertError) as caught:
        decide(router(), pool(), constraints=Constraints(frozenset({"a"})), unhealthy={"a": "down"})
    assert caught.value.reasons == {"a": "down", "b": "not among the experts allowed"}
    with pytest.raises(NoEligibleExpertError, match="the pool is empty"):
        decide(router(), [])


def test_experts_expected_to_be_too_slow_are_left_out() -> None:
    limit = Constraints(max_latency_s=2.0)
    decision = decide(router(), pool(), constraints=limit)
    assert decision.expert == "a"
    assert decision.excluded == {"b": "expected to take 3 s, the ceiling is 2 s"}
    assert decision.flags == ()
    with pytest.raises(NoEligibleExpertError, match="expected to take 1 s"):
        decide(router(), pool(), constraints=Constraints(max_latency_s=0.5))


def test_unknown_latencies_pass_the_ceiling_with_a_flag() -> None:
    unsure = router(a=(0.7, 1, NAN), b=(0.9, 1, 3.0))
    decision = decide(unsure, pool(), constraints=Constraints(max_latency_s=2.0))
    assert decision.flags == ("latency_unknown:a",)


def test_the_way_there_is_the_least_that_an_answer_takes() -> None:
    far = [ExpertCard("a", rtt_s=0.1), ExpertCard("b", rtt_s=4.0)]
    # Of a it was timed, with the way there in it; of b less was timed than the way there takes.
    decision = decide(router(), far)
    assert decision.candidates.latency_s_A.tolist() == [1.0, 4.0]
    untimed = router(a=(0.7, 1, NAN), b=(0.9, 1, NAN))
    assert decide(untimed, far).candidates.latency_s_A.tolist() == [0.1, 4.0]
    limit = Constraints(max_latency_s=2.0)
    assert decide(untimed, far, constraints=limit).excluded.keys() == {"b"}
    # Where others were timed, who was not counts as the slowest, as ever.
    one = router(a=(0.7, 1, 3.0), b=(0.9, 1, NAN))
    assert np.isnan(decide(one, far).candidates.latency_s_A[1])


def test_latency_is_weighed_against_the_slowest_typical_expert() -> None:
    assert decide(router(), pool()).candidates.latency_scale_s == 3
    trained = replace(router(), typical_latency_s=6.0)
    assert decide(trained, pool()).candidates.latency_scale_s == 6
    unknown = router(a=(0.7, 1, NAN))
    assert decide(unknown, pool(a=CHEAP)).candidates.latency_scale_s == 1


def test_without_training_the_priors_decide_and_the_flag_says_so() -> None:
    cards = [ExpertCard("a", quality_prior=0.4), ExpertCard("b", quality_prior=0.6)]
    decision = decide(untrained_router("default"), cards)
    assert decision.expert == "b"
    assert decision.version == "prior"
    assert decision.flags == ("untrained",)


def test_without_training_it_explores_as_told() -> None:
    decision = decide(untrained_router("default", epsilon=0.4), pool())
    assert sorted(decision.probabilities_A) == pytest.approx([0.2, 0.8])


def test_requests_estimated_together_are_decided_as_if_each_were_alone() -> None:
    texts = ["x" * 40, "y" * 4000]
    for deciding in (router(epsilon=0.2), untrained_router("default")):
        together = deciding.expectations(texts)
        for text, expected in zip(texts, together, strict=True):
            one = decide(deciding, pool(), text=text, expected=expected)
            other = decide(deciding, pool(), text=text)
            assert one.expert == other.expert
            np.testing.assert_array_equal(one.utility_A, other.utility_A)
            np.testing.assert_array_equal(one.candidates.cost_usd_A, other.candidates.cost_usd_A)


def test_what_is_expected_is_not_estimated_again() -> None:
    decision = decide(router(), pool(), expected={"a": (0.95, 0.01, 10, 1.0)})
    assert decision.expert == "a"
    assert decision.flags == ("unseen:b",)


def test_soft_preferences_weigh_on_what_they_name() -> None:
    cards = [
        ExpertCard("a", params_total_b=7, released="2025-01-01", local=True),
        ExpertCard("b", params_total_b=70, released="2026-01-01"),
    ]
    none = decide(router(), cards).candidates.penalty_A
    assert none.tolist() == [0, 0]
    for flag, chosen in (("size", "a"), ("recency", "b"), ("local", "a")):
        decision = decide(router(), cards, prefer={flag: 0.3})
        assert decision.expert == chosen
        assert sorted(decision.candidates.penalty_A) == [0, 0.3]


def test_what_a_card_does_not_say_counts_as_the_pools_worst() -> None:
    cards = [
        ExpertCard("a", params_active_b=7),
        ExpertCard("b", params_total_b=70),
        ExpertCard("c"),
    ]
    decision = decide(router(), cards, prefer={"size": 0.3, "recency": 0.2})
    np.testing.assert_allclose(decision.candidates.penalty_A, [0, 0.3, 0.3])


@pytest.mark.parametrize("prefer", [{"colour": 0.1}, {"size": -0.1}, {"size": NAN}])
def test_a_wrong_soft_preference_is_refused_by_name(prefer: dict[str, float]) -> None:
    with pytest.raises(RoutingError, match=next(iter(prefer))):
        decide(router(), pool(), prefer=prefer)


def test_the_explanation_has_the_figures_that_settled_it() -> None:
    told = explain(decide(router(), pool(), unhealthy={"c": "down"}))
    assert told == (
        "b was chosen for 'mine': expected quality 0.90 ± 0.02, cost $0.005, 3.0 s, utility 0.900; "
        "a has expected quality 0.70 ± 0.02, cost $0.0003, 1.0 s, utility 0.700."
    )


def test_the_explanation_tells_exploration_from_preference() -> None:
    explored = decide(router(epsilon=0.2), pool(b=None, a=None), uniform=0.0)
    assert "a was drawn to explore, which had probability 0.1" in explain(explored)
    assert "cost unknown" in explain(explored)


def test_the_explanation_says_who_was_not_eligible_and_why() -> None:
    told = explain(decide(router(), pool(), unhealthy={"b": "circuit open"}))
    assert "no other expert can serve this request" in told
    assert told.endswith("Not eligible were b: circuit open.")


def test_fallback_goes_by_utility_and_among_equals_by_id() -> None:
    low, high = (0.2, 1.0, 1.0), (0.9, 1.0, 1.0)
    explores = router(1.0, a=low, b=high, c=high, d=(0.5, 1.0, 1.0))
    cards = pool(a=CHEAP, b=CHEAP, c=CHEAP, d=CHEAP)
    decision = decide(explores, cards, uniform=0.99)
    assert decision.expert == "d"
    assert decision.ranked() == ("d", "b", "c", "a")
    assert decide(explores, cards[:1]).ranked() == ("a",)


def test_who_does_not_say_stands_by_for_those_who_do() -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    known = router(sure=(0.9, 10, 3.0), poor=(0.2, 10, 1.0), good=(0.8, 10, 9.0))
    cards = [
        ExpertCard("sure", tools=True),
        ExpertCard("poor"),
        ExpertCard("good"),
        ExpertCard("new", quality_prior=0.5),
        ExpertCard("unable", tools=False),
    ]
    decision = decide(known, cards, params=tools)
    assert (decision.expert, decision.standby) == ("sure", ("good", "new", "poor"))
    assert decision.candidates.experts == ("sure",)
    assert "it is asked when they fail" in decision.excluded["good"]
    assert decide(known, cards).standby == ()
    # Who would be too slow does not stand by, and is told so.
    decision = decide(known, cards, params=tools, constraints=Constraints(max_latency_s=5))
    assert decision.standby == ("new", "poor")
    assert "ceiling is 5 s" in decision.excluded["good"]
    # Where all who say yes are too slow, those who don't say are who is left.
    decision = decide(known, cards, params=tools, constraints=Constraints(max_latency_s=2))
    assert decision.candidates.experts == ("new", "poor")
    assert (decision.standby, "unstated:tools" in decision.flags) == ((), True)
    assert decision.excluded.keys() == {"sure", "good", "unable"}
