"""Calendar periods, worst cases, and what is reserved for a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.cards import ExpertCard, FewShotPrompt, Prices
from experts.messages import ChatRequest, Message, Usage
from gateway.access.accounts import Account, Accounts, period, set_aside, settle
from gateway.access.admission import Admission
from gateway.access.keys import Key
from gateway.access.meters import Meter
from gateway.access.passes import Pass
from gateway.access.refusals import budget_exceeded
from gateway.access.worst import bounded, worst_case
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.ids import now
from gateway.settings.access import AccessSettings, Grant, Limit

HI = (Message("user", "Hi"),)
CARD = ExpertCard("small", prices=Prices(1, 2))
prices = st.builds(
    Prices,
    input=st.floats(0, 100),
    output=st.floats(0, 100),
    cache_read=st.none() | st.floats(0, 100),
    cache_write=st.none() | st.floats(0, 100),
    request=st.floats(0, 1),
)


def ask(key: Key, session: str | None = None, **fields: Any) -> Ask:
    made = Ask(ChatRequest(HI, **fields), "small", "openai.chat", key)
    wishes = made.wishes.model_copy(update={"session": session})
    return Ask(made.request, made.model, made.wire, key, wishes)


class NoSpending:
    """A ledger in which nothing was spent."""

    def since(self, meter: Meter, at: float) -> int:
        return 0


async def flushed() -> None:
    return None


def admission(**said: Any) -> Admission:
    return Admission(AccessSettings.model_validate(said), NoSpending(), flushed)


def opened(key: Key, made: Admission) -> None:
    """Open all accounts of `key`, so that nothing has to wait."""
    for meter in made.meters(key).budgets:
        made.accounts.open(meter, now(), 0)


@pytest.mark.parametrize(
    ("per", "at", "begins", "ends"),
    [
        ("day", "2026-11-22T23:59:59.9", "2026-11-22", "2026-11-23"),
        ("day", "2026-11-22T00:00", "2026-11-22", "2026-11-23"),
        ("week", "2026-11-22T12:00", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00", "2026-11-23", "2026-11-30"),
        ("month", "2026-12-31T23:00", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T23:00", "2028-02-01", "2028-03-01"),
        ("minute", "2026-11-22T10:30:59", "2026-11-22T10:30", "2026-11-22T10:31"),
    ],
)
def test_periods_are_the_calendars_in_utc(per: Any, at: str, begins: str, ends: str) -> None:
    def epoch(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    assert period(per, epoch(at)) == (epoch(begins), epoch(ends))


def test_a_new_period_is_another_account_and_the_old_one_settles_by_itself() -> None:
    accounts, meter = Accounts(), Meter("key", "k", Limit(usd=1, per="day"))
    today = accounts.open(meter, 1000.0, 7)
    assert accounts.find(meter, 86_399.0) is today
    assert accounts.find(meter, 86_400.0) is None
    assert accounts.open(meter, 2000.0, 99) is today


def test_a_budget_that_is_changed_keeps_what_is_spent_and_what_is_held() -> None:
    accounts = Accounts()
    before, after = (Meter("key", "k", Limit(usd=usd, per="total")) for usd in (1, 2))
    account = accounts.open(before, 0.0, 100_000_000)
    set_aside([account], 500_000_000)
    assert accounts.find(after, 0.0) is account
    assert account.room == 1_400_000_000
    settle([account], 500_000_000, 600_000_000)
    assert account.room == 1_300_000_000
    one, two = (Meter("session", "k", Limit(usd=usd, per="total"), "s") for usd in (1, 2))
    assert accounts.open(one, 0.0, 0) is not accounts.open(two, 0.0, 0)


def test_the_longest_unused_are_forgotten_but_none_that_a_request_draws_on() -> None:
    accounts = Accounts(most=2)
    held, one, two, new = (Meter("key", name, Limit(usd=1, per="total")) for name in "abcd")
    accounts.open(held, 0.0, 0).passes = 1
    for meter in (one, two):
        accounts.open(meter, 0.0, 0)
    assert [account.meter for account in accounts.all()] == [held, one, two]
    accounts.find(held, 0.0)
    accounts.open(new, 0.0, 0)
    assert [account.meter for account in accounts.all()] == [held, new]


@given(
    prices,
    st.integers(1, 300),
    st.integers(1, 4),
    st.text(max_size=200),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_no_answer_within_its_bounds_costs_more_than_the_worst_case(
    price: Prices, most: int, n: int, text: str, shares: tuple[float, float, float]
) -> None:
    request = ChatRequest((Message("user", text),), max_tokens=most, params={"n": n})
    worst = worst_case(CARD, price, request, 4096)
    assert worst is not None
    read = len(text.encode())
    cached = round(read * shares[0])
    written = round((read - cached) * shares[1])
    usage = Usage(
        input=read - cached - written,
        cache_read=cached,
        cache_write=written,
        output=round(most * n * shares[2]),
    )
    assert price.cost_nanousd(usage) <= worst.cost(worst.tokens)


@given(prices, st.integers(1, 4000), st.integers(0, 10**10))
def test_the_longest_answer_that_fits_is_found(price: Prices, most: int, room: int) -> None:
    worst = worst_case(CARD, price, ChatRequest(HI, max_tokens=most), 4096)
    assert worst is not None
    fits = worst.affordable(room)
    if fits >= 0:
        assert worst.cost(fits) <= room
    if fits < worst.tokens:
        assert worst.cost(fits + 1) > room


@pytest.mark.parametrize("tokens", [2**63 - 1, 2**64])
def test_an_answer_longer_than_any_list_is_cut_to_what_fits(tokens: int) -> None:
    worst = worst_case(CARD, Prices(1, 2), ChatRequest(HI, max_tokens=tokens), 4096)
    assert worst is not None
    assert 0 < worst.affordable(1_000_000) < 500


@pytest.mark.parametrize(
    ("card", "request_", "tokens_", "implied"),
    [
        (CARD, ChatRequest(HI), 4096, True),
        (CARD, ChatRequest(HI, max_tokens=7), 7, False),
        (CARD, ChatRequest(HI, params={"max_completion_tokens": 9}), 9, False),
        (CARD, ChatRequest(HI, max_tokens=3, params={"max_output_tokens": 9}), 9, False),
        (CARD, ChatRequest(HI, params={"max_completion_tokens": True}), 4096, True),
        (ExpertCard("x", context_tokens=99), ChatRequest(HI), 99, False),
        (ExpertCard("x", context_tokens=99, max_output_tokens=5), ChatRequest(HI), 5, False),
        (CARD, ChatRequest(HI, task="embed"), 0, False),
    ],
)
def test_what_bounds_an_answer(
    card: ExpertCard, request_: ChatRequest, tokens_: int, implied: bool
) -> None:
    worst = worst_case(card, Prices(1, 1), request_, 4096)
    assert worst is not None
    assert (worst.tokens, worst.implied) == (tokens_, implied)


def test_an_image_costs_up_to_the_window_and_is_unbounded_without_one() -> None:
    image = Message("user", ({"type": "image_url", "image_url": {"url": "http://x/y.png"}},))
    request = ChatRequest((image,), max_tokens=1)
    assert worst_case(CARD, Prices(1, 0), request, 1) is None
    known = worst_case(ExpertCard("x", context_tokens=1000), Prices(1, 0), request, 1)
    assert known is not None
    assert known.cost(1) >= 1000 * 1000


def test_all_that_is_sent_is_read_at_the_dearest_price() -> None:
    def fixed(prices: Prices | None = None, **fields: Any) -> float:
        worst = worst_case(CARD, prices or Prices(1, 0), ChatRequest(HI, max_tokens=1, **fields), 1)
        assert worst is not None
        return worst.fixed

    bare = fixed()
    assert fixed(Prices(1, 0, cache_read=0.1, cache_write=5)) == 5 * bare
    assert fixed(Prices(1, 0, cache_read=3)) == 3 * bare
    assert fixed(Prices(1, 0, request=0.25)) == bare + 0.25e9
    assert fixed(params={"seed": "x" * 1000}) >= bare + 1000 * 1000
    assert fixed(raw=("x" * 1000,)) >= bare + 1000 * 1000
    tools = [{"type": "function", "function": {"name": "f"}}]
    # Providers tell a model how to call tools at length.
    assert fixed(params={"tools": tools}) >= bare + 1000 * 1000


def test_a_few_shot_prompt_is_read_too() -> None:
    prompt = FewShotPrompt("x" * 1000, ())
    bare = worst_case(CARD, Prices(1, 0), ChatRequest(HI, max_tokens=1), 1)
    more = worst_case(
        ExpertCard("b", prompt=prompt), Prices(1, 0), ChatRequest(HI, max_tokens=1), 1
    )
    assert bare is not None
    assert more is not None
    assert more.cost(1) >= bare.cost(1) + 1000 * 1000


def test_bounding_lowers_every_name_of_the_bound() -> None:
    request = ChatRequest(HI, max_tokens=50, params={"max_completion_tokens": 50, "seed": 1})
    cut = bounded(request, 5)
    assert (cut.max_tokens, dict(cut.params)) == (5, {"max_completion_tokens": 5, "seed": 1})


def broke(made: Pass, request: ChatRequest, card: ExpertCard = CARD) -> ApiError:
    with pytest.raises(ApiError) as raised:
        made.cover_now(card, request)
    return raised.value


def passed(usd: float, per: str = "total", **said: Any) -> tuple[Admission, Pass]:
    made = admission(**said)
    key = Key("k", Grant(limits=(Limit.model_validate({"usd": usd, "per": per}),)))
    opened(key, made)
    gone = made.admit_now(ask(key))
    assert gone is not None
    return made, gone


def test_an_answer_is_cut_to_what_is_left_and_that_is_said() -> None:
    _, made = passed(0.001)
    cover = made.cover_now(CARD, ChatRequest(HI, max_tokens=10_000))
    assert 16 <= (cover.request.max_tokens or 0) < 500
    assert made.headers()["x-pointsman-max-tokens"] == str(cover.request.max_tokens)


def test_below_the_floor_it_is_429_with_when_to_come_back() -> None:
    _, made = passed(0.0002, "day", min_answer_tokens=100)
    error = broke(made, ChatRequest(HI, max_tokens=10_000))
    assert (error.status, error.type) == (429, "budget_exceeded")
    assert 1 <= int(error.headers["retry-after"]) <= 86_400
    assert "the key 'k' ($0.0002 per day)" in error.message


def test_the_budget_that_is_named_is_the_one_that_stands_in_the_way() -> None:
    made = admission(min_answer_tokens=100)
    limits = (Limit(usd=1, per="day"), Limit(usd=0.0002, per="total"), Limit(usd=2, per="hour"))
    key = Key("k", Grant(limits=limits))
    opened(key, made)
    gone = made.admit_now(ask(key))
    assert gone is not None
    error = broke(gone, ChatRequest(HI, max_tokens=10_000))
    assert "($0.0002 in total) has $0.0002 left" in error.message
    assert "retry-after" not in error.headers


def test_money_that_others_hold_may_come_back_in_a_moment() -> None:
    _, made = passed(0.001)
    made.cover_now(CARD, ChatRequest(HI, max_tokens=10_000))
    assert broke(made, ChatRequest(HI, max_tokens=100)).headers["retry-after"] == "1"


@pytest.mark.parametrize(("least", "soon"), [(1000, True), (1001, False)])
def test_what_others_hold_helps_only_where_it_is_enough(least: int, soon: bool) -> None:
    account = Account(Meter("key", "k", Limit(usd=1e-6, per="total")), 0.0, None, reserved=1000)
    assert ("retry-after" in budget_exceeded([account], least, 0.0).headers) is soon


def test_a_free_expert_answers_whatever_is_left() -> None:
    free = ExpertCard("free", prices=Prices(0, 0))
    _, made = passed(0.000001)
    assert made.cover_now(free, ChatRequest(HI)).request.max_tokens == 4096


def test_an_unknown_price_is_refused_unless_allowed() -> None:
    unpriced = ExpertCard("dark")
    _, made = passed(1)
    assert (broke(made, ChatRequest(HI), unpriced).status) == 403
    composed = ExpertCard("both", composed=True)
    assert made.cover_now(composed, ChatRequest(HI)).request.max_tokens is None
    _, lenient = passed(1, unknown_price="allow")
    assert lenient.cover_now(unpriced, ChatRequest(HI)).request.max_tokens is None


def test_what_nothing_bounds_is_refused_where_a_budget_has_to_be_kept() -> None:
    picture = Message("user", ({"type": "image_url", "image_url": {"url": "http://x/y.png"}},))
    _, made = passed(1, unknown_price="allow")
    error = broke(made, ChatRequest((picture,), max_tokens=1))
    assert (error.status, error.code) == (403, "cost_not_bounded")
    bounded_by_its_window = ExpertCard("small", prices=Prices(1, 2), context_tokens=1000)
    made.cover_now(bounded_by_its_window, ChatRequest((picture,), max_tokens=1))


def test_a_pass_that_is_closed_twice_gives_back_once() -> None:
    made, gone = passed(1)
    gone.close()
    gone.close()
    assert [account.passes for account in made.accounts.all()] == [0]


def test_a_key_counts_against_the_keys_above_it_and_its_project() -> None:
    made = admission(projects={"red": {"limits": [{"usd": 3, "per": "total"}]}})
    boss = Key("boss", Grant(project="red", limits=(Limit(usd=2, per="total"),)))
    children = [Key(name, Grant(project="red"), boss) for name in ("a", "b")]
    for child in children:
        opened(child, made)
        gone = made.admit_now(ask(child))
        assert gone is not None
        gone.cover_now(CARD, ChatRequest(HI, max_tokens=10)).spent(10, None)
    spent = {account.meter.owner: account.spent for account in made.accounts.all()}
    assert spent == {"boss": 20, "red": 20}


def test_each_session_has_its_own_and_those_without_a_name_share_one() -> None:
    made = admission()
    key = Key("k", Grant(session_limits=(Limit(requests=1, per="minute"),)))
    for session in ("a", "b", None):
        assert made.admit_now(ask(key, session))
        with pytest.raises(ApiError, match="each session"):
            made.admit_now(ask(key, session))


def test_sessions_of_a_key_count_against_the_session_limits_of_the_keys_above_it() -> None:
    made = admission()
    boss = Key("boss", Grant(session_limits=(Limit(requests=1, per="minute"),)))
    child = Key("child", Grant(), boss)
    assert made.free(Key("other")) is not None
    for key in (boss, child):
        # None that passes without being counted, and none that shares with another's sessions.
        assert made.free(key) is None
        assert made.admit_now(ask(key, "a"))
        with pytest.raises(ApiError, match="each session"):
            made.admit_now(ask(key, "a"))
