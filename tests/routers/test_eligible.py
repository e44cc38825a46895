"""Who can serve a request at all."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.cards import PRIVACY, ExpertCard, Prices
from experts.messages import ChatRequest, Message, Source
from routers.abilities import Needs
from routers.eligible import Cards, Constraints, _Case, _one_by_one, eligible, forbidden

FREE = Prices(0.0, 0.0)


def request(max_tokens: int | None = None, **params: Any) -> ChatRequest:
    return ChatRequest((Message("user", "How long is a day?"),), max_tokens, params=params)


def reason(
    card: ExpertCard,
    asked: ChatRequest | None = None,
    *,
    tokens: float = 100.0,
    unhealthy: dict[str, str] | None = None,
    **limits: Any,
) -> str | None:
    able, reasons = eligible(
        asked or request(), tokens, [card], unhealthy or {}, Constraints(**limits)
    )
    assert (card in able) == (card.expert_id not in reasons)
    return reasons.get(card.expert_id)


def test_an_expert_without_limits_can_serve_anything_plain() -> None:
    assert reason(ExpertCard("a")) is None


def test_prompt_and_answer_must_fit_the_context_window() -> None:
    card = ExpertCard("a", context_tokens=150)
    assert reason(card, request(max_tokens=50)) is None
    assert "151 tokens" in (reason(card, request(max_tokens=51)) or "")
    assert reason(card, tokens=149) is None
    assert reason(card, tokens=150) is not None


def test_what_it_cannot_read_is_named() -> None:
    picture = Message("user", ({"type": "image_url", "image_url": {"url": "data:"}},))
    blind = ExpertCard("a", modalities=frozenset({"text"}))
    assert reason(blind, ChatRequest((picture,))) == "cannot read image"
    seeing = ExpertCard("a", modalities=frozenset({"text", "image"}))
    assert reason(seeing, ChatRequest((picture,))) is None


def test_tools_and_schemas_need_experts_that_take_them() -> None:
    tools = request(tools=[{"type": "function", "function": {"name": "f"}}])
    assert reason(ExpertCard("a", tools=False), tools) == "cannot call tools"
    assert reason(ExpertCard("a", tools=True), tools) is None
    schema = request(response_format={"type": "json_object"})
    unable = ExpertCard("a", structured_output=False)
    assert reason(unable, schema) == "does not honour response_format"
    assert reason(ExpertCard("a", structured_output=True), schema) is None


TOOLS = request(tools=[{"type": "function", "function": {"name": "f"}}])
SCHEMA = request(response_format={"type": "json_object"})
PICTURE = ChatRequest((Message("user", ({"type": "image_url", "image_url": {"url": "data:,"}},)),))


@pytest.mark.parametrize(
    ("asked", "setting", "yes", "no"),
    [
        (TOOLS, "tools", True, False),
        (SCHEMA, "structured_output", True, False),
        (PICTURE, "modalities", frozenset({"text", "image"}), frozenset({"text"})),
    ],
    ids=["tools", "schema", "picture"],
)
def test_who_does_not_say_is_asked_where_nobody_says_yes(
    asked: ChatRequest, setting: str, yes: Any, no: Any
) -> None:
    silent, able = ExpertCard("silent"), ExpertCard("able", **{setting: yes})
    unable = ExpertCard("unable", **{setting: no})

    def who(*cards: ExpertCard, **limits: Any) -> tuple[list[str], dict[str, str]]:
        unhealthy = limits.pop("unhealthy", {})
        found, reasons = eligible(asked, 10.0, cards, unhealthy, Constraints(**limits))
        return [card.expert_id for card in found], reasons

    chosen, reasons = who(able, silent, unable)
    assert chosen == ["able"]
    assert f"`{setting}`" in reasons["silent"]
    assert who(silent, unable) == (["silent"], {"unable": reasons["unable"]})
    assert who(unable)[0] == []
    assert who(able, silent, allow=frozenset({"silent"}))[0] == ["silent"]
    assert who(able, silent, unhealthy={"able": "down"})[0] == ["silent"]


def test_to_be_preferred_an_expert_states_all_that_is_needed() -> None:
    both = request(**TOOLS.params, **SCHEMA.params)
    cards = [
        ExpertCard("half", tools=True),
        ExpertCard("other", structured_output=True),
        ExpertCard("unable", tools=True, structured_output=False),
    ]
    able, _ = eligible(both, 10.0, cards, {}, Constraints())
    assert [card.expert_id for card in able] == ["half", "other"]
    cards.append(ExpertCard("all", tools=True, structured_output=True))
    able, _ = eligible(both, 10.0, cards, {}, Constraints())
    assert [card.expert_id for card in able] == ["all"]


def test_plain_requests_need_nothing_to_be_stated() -> None:
    cards = [ExpertCard("able", tools=True), ExpertCard("silent")]
    able, reasons = eligible(request(), 10.0, cards, {}, Constraints())
    assert (len(able), reasons) == (2, {})


def test_only_allowed_experts_are_asked() -> None:
    assert reason(ExpertCard("a"), allow=frozenset({"a"})) is None
    assert reason(ExpertCard("a"), allow=frozenset({"b"})) == "not among the experts allowed"
    assert reason(ExpertCard("a"), allow=frozenset()) is not None


def test_an_unhealthy_expert_is_out_with_its_own_reason() -> None:
    assert reason(ExpertCard("a"), unhealthy={"a": "circuit open", "b": "down"}) == "circuit open"


def test_the_ceiling_holds_for_the_longest_answer_that_may_come() -> None:
    card = ExpertCard("a", prices=Prices(1.0, 10.0), max_output_tokens=1000)
    worst = (100 * 1.0 + 1000 * 10.0) / 1e6
    assert reason(card, max_cost_usd=worst) is None
    assert "ceiling" in (reason(card, max_cost_usd=worst * 0.99) or "")
    assert reason(card, request(max_tokens=10), max_cost_usd=worst * 0.1) is None


def test_the_ceiling_counts_every_answer_that_is_asked_for() -> None:
    card = ExpertCard("a", prices=Prices(0.0, 10.0))
    asked = request(max_tokens=100, n=3)
    assert reason(card, asked, max_cost_usd=0.003) is None
    assert reason(card, asked, max_cost_usd=0.0029) is not None


def test_the_context_window_bounds_an_answer_that_nothing_else_bounds() -> None:
    card = ExpertCard("a", prices=Prices(0.0, 10.0), context_tokens=200)
    assert reason(card, max_cost_usd=0.001) is None
    assert reason(card, max_cost_usd=0.0009) is not None


def test_under_a_ceiling_neither_unknown_prices_nor_endless_answers_pass() -> None:
    assert "unknown" in (reason(ExpertCard("a"), max_cost_usd=1.0) or "")
    endless = ExpertCard("a", prices=Prices(1.0, 1.0))
    assert "bounds" in (reason(endless, max_cost_usd=1.0) or "")
    assert reason(ExpertCard("a", prices=FREE), max_cost_usd=0.0) is None


def test_without_a_ceiling_an_unknown_price_is_no_obstacle() -> None:
    assert reason(ExpertCard("a")) is None


CARDS = st.lists(
    st.builds(
        ExpertCard,
        expert_id=st.sampled_from([f"e{i}" for i in range(8)]),
        context_tokens=st.one_of(st.none(), st.integers(1, 2000)),
        tools=st.sampled_from([True, False, None]),
        prices=st.one_of(st.none(), st.builds(Prices, st.floats(0, 9), st.floats(0, 9))),
        max_output_tokens=st.one_of(st.none(), st.integers(1, 500)),
    ),
    max_size=8,
    unique_by=lambda card: card.expert_id,
)
LIMITS = st.builds(
    Constraints,
    allow=st.one_of(st.none(), st.frozensets(st.sampled_from([f"e{i}" for i in range(8)]))),
    max_cost_usd=st.one_of(st.none(), st.floats(0, 0.01)),
)


@given(CARDS, LIMITS, st.floats(1, 3000), st.randoms(use_true_random=False))
def test_every_expert_is_either_able_or_has_a_reason_whatever_the_order(
    cards: list[ExpertCard], limits: Constraints, tokens: float, shuffler: Any
) -> None:
    able, reasons = eligible(request(), tokens, cards, {}, limits)
    ids = [card.expert_id for card in able]
    assert ids == sorted(ids)
    assert sorted([*ids, *reasons]) == sorted(card.expert_id for card in cards)
    shuffled = list(cards)
    shuffler.shuffle(shuffled)
    assert eligible(request(), tokens, shuffled, {}, limits) == (able, reasons)


def test_what_a_card_does_not_say_passes_no_limit_on_it() -> None:
    known = ExpertCard(
        "a", local=True, params_total_b=7, released="2026-02-01", tags={"region": "eu", "x": "y"}
    )
    for limits, why in (
        ({"only_local": True}, "does not run on our machines"),
        ({"max_params_b": 7.0}, "does not say how many parameters it has"),
        ({"released_after": date(2026, 1, 31)}, "does not say which day it was released"),
        ({"tags": frozenset({("region", "eu")})}, "is not tagged region=eu"),
    ):
        assert reason(known, **limits) is None
        assert why in (reason(ExpertCard("b", released="soon"), **limits) or "")
        assert forbidden(request(), 10.0, known, Constraints(**limits)) is None
        assert why in (forbidden(request(), 10.0, ExpertCard("b"), Constraints(**limits)) or "")
    assert "has 7 billion" in (reason(known, max_params_b=6.9) or "")
    assert "was released on 2026-02-01" in (reason(known, released_after=date(2026, 2, 1)) or "")


STRICT = st.builds(
    Constraints,
    allow=st.sampled_from([None, frozenset({"e1", "e2"}), frozenset({"e2", "e3"})]),
    max_cost_usd=st.sampled_from([None, 0.001, 1.0]),
    only_local=st.booleans(),
    max_params_b=st.sampled_from([None, 8.0, 70.0]),
    released_after=st.sampled_from([date.min, date(2025, 6, 1)]),
    tags=st.sampled_from([frozenset(), frozenset({("r", "eu")}), frozenset({("r", "us")})]),
    privacy=st.sampled_from(PRIVACY),
)
DESCRIBED = st.lists(
    st.builds(
        ExpertCard,
        expert_id=st.sampled_from([f"e{i}" for i in range(5)]),
        local=st.booleans(),
        params_total_b=st.sampled_from([None, 7.0, 30.0]),
        released=st.sampled_from(["", "2025-01-01", "2026-01-01"]),
        tags=st.sampled_from([{}, {"r": "eu"}, {"r": "us"}]),
        privacy=st.sampled_from(PRIVACY),
    ),
    max_size=4,
    unique_by=lambda card: card.expert_id,
)


@given(DESCRIBED, STRICT, STRICT)
def test_two_limits_together_let_pass_who_passes_each(
    cards: list[ExpertCard], one: Constraints, other: Constraints
) -> None:
    def passing(limits: Constraints) -> set[str]:
        return {card.expert_id for card in eligible(request(), 10.0, cards, {}, limits)[0]}

    assert passing(one.tightened(other)) == passing(one) & passing(other)
    assert passing(one.tightened(Constraints())) == passing(one)


@given(CARDS, LIMITS, st.floats(1, 3000))
def test_a_looser_ceiling_never_excludes_more(
    cards: list[ExpertCard], limits: Constraints, tokens: float
) -> None:
    able, _ = eligible(request(), tokens, cards, {}, limits)
    loose = Constraints(limits.allow, None)
    able_then, _ = eligible(request(), tokens, cards, {}, loose)
    assert {card.expert_id for card in able} <= {card.expert_id for card in able_then}


@pytest.mark.parametrize("cards", [[], [ExpertCard("a")]], ids=["empty pool", "none allowed"])
def test_nobody_eligible_is_an_answer_and_no_error(cards: list[ExpertCard]) -> None:
    able, reasons = eligible(request(), 10.0, cards, {}, Constraints(allow=frozenset()))
    assert able == ()
    assert set(reasons) == {card.expert_id for card in cards}


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The usual value in most cases: what is special is so in one thing or two, not in all."""
    return st.sampled_from([usual] * (6 * len(others)) + list(others))


ABLE_CARDS = st.lists(
    st.builds(
        ExpertCard,
        expert_id=st.sampled_from([f"e{i}" for i in range(4)]),
        context_tokens=mostly(None, 50, 1000),
        tools=mostly(True, False, None),
        structured_output=mostly(True, False, None),
        modalities=mostly(frozenset({"text", "image"}), frozenset({"text"}), None),
        api=mostly("chat", "completions", "embeddings"),
        params=mostly("pass", "strict"),
        media_urls=mostly("public", "any", "data"),
    ),
    max_size=3,
    unique_by=lambda card: card.expert_id,
)
SAID = mostly(
    Message("user", "How long is a day?"),
    Message("assistant", None),
    Message("user", ({"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}},)),
    Message(
        "assistant",
        "Of text alone, it seems.",
        source=Source(
            "anthropic.messages",
            [{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}}],
            (),
        ),
    ),
)
ASKED = st.builds(
    ChatRequest,
    messages=st.lists(SAID, min_size=1, max_size=2).map(tuple),
    max_tokens=st.sampled_from([None, 30]),
    params=st.sampled_from(
        [
            {},
            {"temperature": 0.5},
            {"unheard_of": 1},
            {"chat_template": "{{ 7 * 7 }}"},
            {"chat_template_kwargs": {"chat_template": "{{ 7 * 7 }}"}},
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            {"response_format": {"type": "json_object"}},
        ]
    ),
    task=mostly("chat", "complete", "embed"),
    raw=st.just(("How long is a day?",)),
)


@settings(max_examples=600)
@given(
    ABLE_CARDS,
    ASKED,
    mostly(1.0, 40.0, 400.0),
    mostly(
        Constraints(),
        Constraints(frozenset({"e1"})),
        Constraints(None, 0.0),
        Constraints(only_local=True),
    ),
    mostly({}, {"e1": "down"}),
)
def test_what_all_can_do_is_what_each_can_do(
    cards: list[ExpertCard],
    asked: ChatRequest,
    tokens: float,
    limits: Constraints,
    unhealthy: dict[str, str],
) -> None:
    case = _Case(asked, tokens, Needs.of(asked), unhealthy, limits)
    assert eligible(asked, tokens, cards, unhealthy, limits) == _one_by_one(case, Cards(cards))
