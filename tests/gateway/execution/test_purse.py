"""No cap is passed, however calls nest: what each may cost is set aside in all that it is for."""

from __future__ import annotations

import anyio
import pytest

from experts.cards import NO_CAPS, Caps, ExpertCard, Prices
from experts.errors import ExpertCapError
from experts.messages import ChatRequest, Message, Usage
from gateway.execution.purse import Purse, Rules

pytestmark = pytest.mark.anyio
RULES = Rules(calls=4, depth=2, default_tokens=1000, least_tokens=16)
SMALL = ExpertCard("small", prices=Prices(1, 2))
BOTH = ExpertCard("both", composed=True)
LONG = ChatRequest((Message("user", "Hi"),), max_tokens=10_000)


def composition(caps: Caps = NO_CAPS) -> Purse:
    return Purse(RULES).inner(caps)


def refused(purse: Purse, card: ExpertCard = SMALL, request: ChatRequest = LONG) -> str:
    with pytest.raises(ExpertCapError) as raised, purse.holding(card, request):
        pass
    return str(raised.value)


async def test_an_answer_is_cut_to_what_is_left_and_what_it_did_not_need_is_given_back() -> None:
    both = composition(Caps(usd=0.001))
    with both.inner(NO_CAPS).holding(SMALL, LONG) as held:
        assert 16 < (held.request.max_tokens or 0) < 500
        assert both.room_usd() < 0.000_01
        # Whoever else it asks at the same time has nothing left.
        assert "the cap leaves" in refused(both.inner(NO_CAPS))
        held.cost_nanousd, held.usage = 300_000, Usage(input=5, output=7)
    assert both.room_usd() == pytest.approx(0.0007)
    assert (both.below.calls, both.below.nanousd) == (1, 300_000)
    assert both.below.usage == Usage(input=5, output=7)
    with both.inner(NO_CAPS).holding(SMALL, LONG) as held:
        assert (held.request.max_tokens or 0) < 350


async def test_what_can_not_be_bounded_is_not_asked_where_a_cap_has_to_be_kept() -> None:
    picture = Message("user", ({"type": "image_url", "image_url": {"url": "http://x/y.png"}},))
    seen = ChatRequest((picture,), max_tokens=1)
    unpriced = ExpertCard("unpriced")
    capped, free = composition(Caps(usd=1)), composition()
    assert "its price is unknown" in refused(capped.inner(NO_CAPS), unpriced)
    assert "nothing bounds" in refused(capped.inner(NO_CAPS), SMALL, seen)
    for card, request in ((unpriced, LONG), (SMALL, seen)):
        with free.inner(NO_CAPS).holding(card, request) as held:
            assert held.request is request


async def test_the_lower_of_two_bounds_holds_and_the_others_stay() -> None:
    both = composition()
    assert both.inner(NO_CAPS, 0.5).room_usd() == 0.5
    assert both.inner(Caps(usd=0.1), 0.5).room_usd() == 0.1
    capped = both.inner(Caps(usd=1, calls=1, seconds=9), 0.5)
    assert capped.room_usd() == 0.5
    assert anyio.current_time() < capped.deadline <= anyio.current_time() + 9
    with capped.inner(NO_CAPS).holding(SMALL, LONG):
        assert "the 1 calls allowed" in refused(capped.inner(NO_CAPS))
    with both.inner(NO_CAPS).holding(SMALL, LONG):
        pass


async def test_a_cap_beyond_all_money_caps_nothing() -> None:
    with composition(Caps(usd=1e300)).inner(NO_CAPS).holding(SMALL, LONG) as held:
        assert held.request is LONG


async def test_all_calls_of_a_request_count_but_what_it_asks_again_itself() -> None:
    root = Purse(RULES)
    both = root.inner(NO_CAPS)
    for _ in range(RULES.calls):
        with both.inner(NO_CAPS).holding(SMALL, LONG):
            pass
    assert "the 4 calls allowed" in refused(both.inner(NO_CAPS))
    # After failures the next expert in line is asked, whoever was asked before.
    with root.inner(NO_CAPS).holding(SMALL, LONG):
        pass


async def test_compositions_nest_so_deep_and_no_deeper() -> None:
    outer = composition()
    with outer.holding(BOTH, LONG), outer.inner(NO_CAPS).holding(BOTH, LONG):
        third = outer.inner(NO_CAPS).inner(NO_CAPS)
        assert "may nest 2 deep" in refused(third, BOTH)
        with third.holding(SMALL, LONG):
            pass


async def test_nobody_is_asked_after_the_time_of_what_asks() -> None:
    both = composition(Caps(seconds=5))
    assert anyio.current_time() < both.deadline <= anyio.current_time() + 5
    inner = both.inner(Caps(seconds=50))
    assert inner.deadline == both.deadline
    inner.deadline = anyio.current_time()
    assert "time is up" in refused(inner)
