from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.cards import ExpertCard, Prices
from experts.messages import Usage

counts = st.integers(0, 10**7)
usages = st.builds(Usage, counts, counts, counts, counts, counts)
dollars = st.floats(0, 1000, allow_nan=False)
prices = st.builds(Prices, dollars, dollars, st.none() | dollars, st.none() | dollars, dollars)


@given(prices, usages, usages)
def test_costs_add_up_to_the_cost_of_the_sum_within_rounding(
    price: Prices, a: Usage, b: Usage
) -> None:
    apart = price.cost_nanousd(a) + price.cost_nanousd(b) - round(price.request * 1e9)
    assert math.isclose(apart, price.cost_nanousd(a + b), rel_tol=1e-12, abs_tol=2)


def test_each_kind_of_token_has_its_own_price() -> None:
    price = Prices(input=1, output=10, cache_read=0.1, cache_write=1.25, request=0.5)
    usage = Usage(input=1000, cache_read=2000, cache_write=3000, output=100, reasoning=50)
    dollars = (1000 * 1 + 2000 * 0.1 + 3000 * 1.25 + 150 * 10) / 1e6 + 0.5
    assert price.cost_nanousd(usage) == round(dollars * 1e9)


def test_cached_tokens_without_a_price_of_their_own_cost_what_input_costs() -> None:
    assert Prices(2, 0).cost_nanousd(Usage(cache_read=5)) == 5 * 2 * 1000


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_prices_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="output"):
        Prices(1, value)


def test_a_card_needs_an_id_and_a_possible_prior() -> None:
    with pytest.raises(ValueError, match="id"):
        ExpertCard("")
    with pytest.raises(ValueError, match="quality_prior"):
        ExpertCard("e", quality_prior=1.5)
