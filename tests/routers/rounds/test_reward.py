"""The reward of rounds as published: format above outcome above cost."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.compose.rounds.grammar import FormatFault
from routers.rounds.reward import CostNormaliser, Paid, RewardRule
from routers.rounds.squad import exact_match, squad_form, token_f1
from tests.experts.rounds.test_grammar import FAULTS, POOL, WHOLE

CHEAP, DEAR = Paid(100, 0.1), Paid(400, 1.0)


def window(*costs: float) -> CostNormaliser:
    normaliser = CostNormaliser()
    for cost in costs:
        normaliser.observe(cost)
    return normaliser


def spread() -> CostNormaliser:
    """Square roots of its costs run evenly from 0 to 1."""
    return window(*(np.linspace(0, 1, 999) ** 2))


@pytest.mark.parametrize(("text", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_broken_format_is_worth_minus_one_whatever_it_says(text: str, fault: FormatFault) -> None:
    verdict = RewardRule(alpha=0.5).judge(text, ("Lima",), [CHEAP], POOL, window(1.0))
    assert verdict.reward == -1
    assert verdict.fault is fault


def test_a_wrong_answer_is_worth_nothing_however_cheap() -> None:
    for alpha in (0.0, 0.6, 1.0):
        verdict = RewardRule(alpha).judge(WHOLE, ("Quito",), [], POOL, spread())
        assert verdict.reward == 0
        assert verdict.cheapness == 1


def test_a_right_answer_is_worth_its_outcome_and_how_cheap_it_was() -> None:
    # sqrt(0.25) = 0.5 stands in the middle of a scale from q05 = .05 to q95 = .95.
    paid = [Paid(500_000, 0.3), Paid(100_000, 1.0)]
    verdict = RewardRule(0.6).judge(WHOLE, ("Lima",), paid, POOL, spread())
    assert verdict.cost_usd == pytest.approx(0.25)
    assert verdict.cheapness == pytest.approx(0.5, abs=2e-3)
    assert verdict.reward == pytest.approx(0.4 + 0.6 * verdict.cheapness)


def test_only_words_that_were_written_cost() -> None:
    assert Paid(2_000_000, 0.88).usd == pytest.approx(1.76)


def test_without_weight_on_cost_the_reward_is_the_outcome() -> None:
    rule = RewardRule(0.0, outcome=token_f1)
    text = WHOLE.replace("Lima", "Lima city")
    verdict = rule.judge(text, ("Lima",), [DEAR], POOL, spread())
    assert verdict.reward == verdict.outcome == pytest.approx(2 / 3)


def test_with_all_weight_on_cost_it_is_how_cheap_a_right_answer_was() -> None:
    verdict = RewardRule(1.0).judge(WHOLE, ("Lima",), [DEAR], POOL, spread())
    assert verdict.reward == verdict.cheapness


def test_the_variant_charges_wrong_answers_for_what_was_spent() -> None:
    rule = RewardRule(0.6, charge=0.5)
    dear = rule.judge(WHOLE, ("Quito",), [Paid(1_000_000, 1.0)], POOL, spread())
    free = rule.judge(WHOLE, ("Quito",), [], POOL, spread())
    assert dear.reward == pytest.approx(-0.5)
    assert free.reward == 0
    assert rule.judge("Lima", ("Lima",), [], POOL, spread()).reward == -1, "below any wrong answer"


def test_the_order_of_the_pool_changes_nothing() -> None:
    for text, _ in [*FAULTS.values(), (WHOLE, None)]:
        judged = {
            RewardRule(0.5).judge(text, ("Lima",), [CHEAP], order, window(0.0, 1.0))
            for order in itertools.permutations((*POOL, "other"))
        }
        assert len(judged) == 1


@given(
    st.floats(0, 1),
    st.lists(st.floats(0, 100), max_size=30),
    st.integers(0, 10**6),
    st.sampled_from([WHOLE, "Lima", WHOLE.replace("Lima", "Quito")]),
)
def test_a_reward_is_minus_one_or_between_nought_and_one(
    alpha: float, costs: list[float], tokens: int, text: str
) -> None:
    verdict = RewardRule(alpha).judge(text, ("Lima",), [Paid(tokens, 1.0)], POOL, window(*costs))
    assert verdict.reward == -1 or 0 <= verdict.reward <= 1


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be in"):
        RewardRule(1.5)
    with pytest.raises(ValueError, match="charge must be in"):
        RewardRule(charge=1.0)
    with pytest.raises(ValueError, match="a cost is a finite number"):
        CostNormaliser().observe(-1.0)


class TestCostNormaliser:
    def test_nothing_to_compare_with_is_neither_cheap_nor_dear(self) -> None:
        assert CostNormaliser().cheapness(5.0) == 0.5
        assert window(2.0, 2.0, 2.0).cheapness(2.0) == 0.5

    def test_the_scale_runs_between_the_5_and_the_95_percent_quantiles_of_roots(self) -> None:
        normaliser = window(*(float(n) ** 2 for n in range(101)))
        assert normaliser.quantiles() == pytest.approx((5.0, 95.0))
        assert normaliser.cheapness(50.0**2) == pytest.approx(0.5)
        assert normaliser.cheapness(5.0**2) == pytest.approx(1.0)
        assert normaliser.cheapness(0.0) == 1
        assert normaliser.cheapness(99.0**2) == 0

    def test_the_root_keeps_one_dear_call_from_setting_the_scale(self) -> None:
        costs = [float(n) for n in range(1, 41)]
        ends = window(*costs).quantiles()
        assert ends is not None
        low, high = ends
        assert window(*costs).cheapness(9.0) == pytest.approx(1 - (3 - low) / (high - low))
        assert high < math.sqrt(40)

    def test_only_the_latest_thousand_count(self) -> None:
        normaliser = window(*[100.0] * 500, *[1.0] * 500, *[4.0] * 500)
        assert len(normaliser.latest) == 1000
        assert normaliser.quantiles() == (1.0, 2.0)

    def test_each_has_a_window_of_its_own(self) -> None:
        window(1.0, 2.0)
        assert CostNormaliser().quantiles() is None


class TestSquad:
    @pytest.mark.parametrize(
        ("text", "form"),
        [
            ("The  Eiffel-Tower!", "eiffeltower"),
            ("a man, an apple; the end.", "man apple end"),
            ("Théâtre", "théâtre"),
            ("", ""),
            ("another", "another"),
        ],
    )
    def test_the_form(self, text: str, form: str) -> None:
        assert squad_form(text) == form

    def test_exact_match_takes_any_accepted_answer(self) -> None:
        assert exact_match("The Lima.", ("Quito", "lima")) == 1
        assert exact_match("Lima city", ("lima",)) == 0
        assert exact_match("", ()) == 0

    def test_f1_over_words(self) -> None:
        assert token_f1("in Lima Peru", ("Lima", "Peru Lima")) == pytest.approx(0.8)
        assert token_f1("Lima", ("Quito",)) == 0
        assert token_f1("yes it is", ("yes",)) == 0
        assert token_f1("Yes", ("yes.",)) == 1
        assert token_f1("x", ()) == 0
