"""Cascade, vote, best of n and cascade routing, each by its own rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.base import Call, Expert
from experts.cards import ExpertCard, Prices
from experts.compose.alone import answer_alone
from experts.compose.base import ChildRequest, Reply
from experts.compose.best_of import BestOf, BySignal
from experts.compose.cards import Share, composed_card
from experts.compose.cascade import Cascade, Stage
from experts.compose.deferral.agreement import Agreement
from experts.compose.deferral.base import Deferral, SignalResult
from experts.compose.deferral.confidence import Confidence
from experts.compose.deferral.gates import Threshold
from experts.compose.judge import JudgedByExpert
from experts.compose.lookahead import Lookahead, expected_excess
from experts.compose.routed import Routed
from experts.compose.vote import Ballot, Vote, Voter
from experts.errors import ExpertCallError, ExpertUnavailableError, ExpertUnsupportedError
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Completion, Delta, Finish, Message, Usage

ASKED = ChatRequest((Message("user", "What is it?"),))
DOWN = [ExpertUnavailableError("x", "down")]


def scripted(name: str, *texts: Any, price: float = 1.0, quality: float = 0.5) -> ScriptedExpert:
    card = ExpertCard(name, prices=Prices(price, price), quality_prior=quality)
    usage = Usage(input=10, output=5)
    return ScriptedExpert(card, *[says(t, usage) if isinstance(t, str) else t for t in texts])


def card(*children: Expert) -> ExpertCard:
    shares = [Share(child.card) for child in children]
    return composed_card("it", shares, shares[:1])


def composed(**said: Any) -> ExpertCard:
    """Of two, each field as either says it."""
    one, other = (
        ScriptedExpert(
            ExpertCard(name, **{field: both[place] for field, both in said.items()}), says("x")
        )
        for place, name in enumerate("ab")
    )
    return card(one, other)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (True, True, True),
        (True, False, False),
        (None, False, False),
        (True, None, None),
        (None, None, None),
    ],
)
def test_it_can_what_all_can_as_far_as_they_say(
    one: bool | None, other: bool | None, both: bool | None
) -> None:
    for said in ((one, other), (other, one)):
        able = composed(tools=said, structured_output=said)
        assert (able.tools, able.structured_output) == (both, both)


SEES = frozenset({"text", "image"})
READS = frozenset({"text"})


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (SEES, SEES, SEES),
        (SEES, READS, READS),
        (None, READS, READS),
        (SEES, None, None),
        (None, None, None),
    ],
)
def test_it_reads_what_all_read_as_far_as_they_say(one: Any, other: Any, both: Any) -> None:
    assert composed(modalities=(one, other)).modalities == both
    assert composed(modalities=(other, one)).modalities == both


def answer(expert: Expert, request: ChatRequest = ASKED) -> tuple[Completion, Call]:
    return anyio.run(answer_alone, expert, request)


class Scored:
    """A signal that knows the score of each text."""

    calls = 0.0

    def __init__(self, **scores: float | None) -> None:
        self._scores = scores

    def asks(self, request: ChatRequest) -> ChatRequest:
        return request

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: ChildRequest, call: Call
    ) -> SignalResult:
        return SignalResult(self._scores[reply.text])


def rule(**scores: float | None) -> Deferral:
    return Deferral(Scored(**scores), Threshold(0.8, hopeless_below=0.1))


@pytest.mark.parametrize(
    ("score", "text", "asked_large"),
    [(0.9, "draft", 0), (0.5, "final", 1), (0.05, "draft", 0), (None, "final", 1)],
    ids=["good", "doubtful", "hopeless", "unknown"],
)
def test_a_cascade_goes_on_from_a_doubtful_draft_alone(
    score: float | None, text: str, asked_large: int
) -> None:
    small, large = scripted("small", "draft"), scripted("large", "final", price=10)
    cascade = Cascade(card(small, large), [Stage(small, rule(draft=score))], large)
    completion, call = answer(cascade)
    assert completion.text == text
    assert len(large.calls) == asked_large
    assert call.below.calls == 1 + asked_large
    assert completion.usage == Usage(input=10 + 10 * asked_large, output=5 + 5 * asked_large)
    assert call.below.nanousd == 15_000 + 150_000 * asked_large
    assert call.trace[0]["score"] == score


def test_where_the_last_one_fails_the_best_draft_is_the_answer() -> None:
    one, two = scripted("one", "fair"), scripted("two", "poor")
    rules = rule(fair=0.6, poor=0.3)
    cascade = Cascade(
        card(one, two), [Stage(one, rules), Stage(two, rules)], scripted("three", DOWN)
    )
    completion, call = answer(cascade)
    assert completion.text == "fair"
    assert call.trace[-1]["failed"] == "unavailable"


def test_of_equal_drafts_that_from_further_up_is_the_answer() -> None:
    # Two of four samples of each agree, of the first one the last two that were asked for.
    one, two = scripted("one", *"abcc"), scripted("two", *"ddef")
    agree = Deferral(Agreement(4), Threshold(0.8))
    stages = [Stage(one, agree), Stage(two, agree)]
    completion, _ = answer(Cascade(card(one, two), stages, scripted("three", DOWN)))
    assert completion.text == "d"


def test_an_answer_that_broke_is_not_replaced_by_a_draft() -> None:
    broken = scripted("large", [Delta("fin"), ExpertUnavailableError("large", "gone")])
    small = scripted("small", "draft")
    cascade = Cascade(card(small, broken), [Stage(small, rule(draft=0.5))], broken)
    with pytest.raises(ExpertUnavailableError):
        answer(cascade, ChatRequest(ASKED.messages, stream=True))


@pytest.mark.parametrize("wanted", [False, True])
def test_log_probabilities_reach_the_client_only_if_it_asked(wanted: bool) -> None:
    told = {"content": [{"token": "a", "logprob": -0.01}]}
    small = scripted("small", [Delta("draft", logprobs=told), Finish("stop")])
    stage = Stage(small, Deferral(Confidence(), Threshold(0.8)))
    cascade = Cascade(card(small), [stage], scripted("large", "final"))
    params = {"logprobs": True} if wanted else {}
    completion, _ = answer(cascade, ChatRequest(ASKED.messages, params=params))
    assert completion.text == "draft"
    assert bool(completion.choices[0].logprobs) == wanted
    assert small.requests[0].params["logprobs"] is True


def test_tool_calls_and_the_reason_of_the_end_pass_through() -> None:
    called = {
        "index": 0,
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }
    small = scripted("small", [Delta(tool_calls=(called,)), Finish("tool_calls")])
    stage = Stage(small, Deferral(Scored(**{"": 0.9}), Threshold(0.8)))
    completion, _ = answer(Cascade(card(small), [stage], scripted("large", "final")))
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.tool_calls[0]["function"]["name"] == "f"


def test_a_vote_stops_when_it_can_not_turn() -> None:
    one = scripted("one", "Paris", "paris", "PARIS", "London", "London")
    completion, call = answer(Vote(card(one), [Voter(one, 5)], at_once=1))
    assert completion.text == "Paris"
    assert len(one.calls) == 3
    assert call.trace[0]["not_needed"] == 2


def test_votes_weigh_what_they_are_said_to() -> None:
    one, two = scripted("one", "Paris"), scripted("two", "London")
    voters = [Voter(one, 2), Voter(two, 1, weight=3)]
    completion, _ = answer(Vote(card(one, two), voters, at_once=1))
    assert completion.text == "London"


class Estimates:
    async def weights(
        self, request: ChatRequest, cards: Sequence[ExpertCard], call: Call
    ) -> Sequence[float]:
        return [5.0 if each.expert_id == "two" else 1.0 for each in cards]


def test_weights_may_come_from_estimates_for_the_request() -> None:
    one, two = scripted("one", "Paris"), scripted("two", "London")
    voters = [Voter(one, 3), Voter(two)]
    vote = Vote(card(one, two), voters, at_once=1, weigher=Estimates())
    assert answer(vote)[0].text == "London"


def test_a_vote_needs_so_many_answers_as_are_said() -> None:
    one, two = scripted("one", "Paris"), scripted("two", DOWN)
    voters = [Voter(one), Voter(two)]
    assert answer(Vote(card(one, two), voters))[0].text == "Paris"
    with pytest.raises(ExpertUnavailableError):
        answer(Vote(card(one, two), voters, min_successful=2))


def test_one_answer_is_not_several() -> None:
    one = scripted("one", "Paris")
    with pytest.raises(ExpertUnsupportedError, match="`n` must be 1"):
        answer(Vote(card(one), [Voter(one, 3)]), ChatRequest(ASKED.messages, params={"n": 2}))


def a_reply(index: int) -> Reply:
    return Reply(index, "a", (), Completion((), None))


@given(st.data())
def test_a_vote_that_is_decided_is_never_turned_by_what_was_left_out(data: Any) -> None:
    count = data.draw(st.integers(1, 7))
    weights = data.draw(st.lists(st.floats(0.1, 3), min_size=count, max_size=count))
    says_what = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    order = data.draw(st.permutations(range(count)))

    def winner(heard: Sequence[int]) -> tuple[bool, int]:
        ballot = Ballot(weights)
        for index in heard:
            ballot.add(a_reply(index))
        seen: dict[int, int] = {}
        ballot.count([seen.setdefault(says_what[r.index], len(seen)) for r in ballot.came])
        return ballot.decided, says_what[ballot.winner.index]

    _, final = winner(order)
    for heard in range(1, count + 1):
        decided, now = winner(order[:heard])
        assert not decided or now == final


def test_best_of_gives_the_draft_that_seems_best() -> None:
    one = scripted("one", "poor", "good", "fair")
    best = BestOf(card(one), [one] * 3, BySignal(Scored(poor=0.1, good=0.9, fair=None)), at_once=1)
    completion, call = answer(best)
    assert completion.text == "good"
    assert completion.usage == Usage(input=30, output=15)
    assert [draft["score"] for draft in call.trace[0]["drafts"]] == [0.1, 0.9, None]


def test_what_agrees_is_given_and_not_the_draft_that_does_not() -> None:
    one = scripted("one", "41", "43", "42", "42", "7", "8")
    best = BestOf(card(one), [one] * 2, BySignal(Agreement(3)), at_once=1)
    assert answer(best)[0].text == "42", "two of three say so, when the first draft is judged"
    one = scripted("one", "41", "42", "42")
    routed = Routed(card(one), [one], Lookahead(Agreement(3), weight=0.0), 1)
    assert answer(routed)[0].text == "42"


@pytest.mark.parametrize(("said", "text"), [("2", "good"), ("Answer 2.", "good"), ("9", "poor")])
def test_a_judge_names_the_best(said: str, text: str) -> None:
    one, judge = scripted("one", "poor", "good"), scripted("judge", said)
    best = BestOf(card(one, judge), [one] * 2, JudgedByExpert(judge), at_once=1)
    completion, call = answer(best)
    assert completion.text == text
    assert call.below.calls == 3
    assert "What is it?" in judge.requests[0].text


def test_without_a_judge_the_first_draft_is_given() -> None:
    one = scripted("one", "poor", "good")
    best = BestOf(card(one), [one] * 2, JudgedByExpert(scripted("judge", DOWN)), at_once=1)
    assert answer(best)[0].text == "poor"


def three(**qualities: float) -> list[Expert]:
    return [
        scripted(name, name, price=10.0**i, quality=q)
        for i, (name, q) in enumerate(qualities.items())
    ]


def test_routing_goes_on_until_nobody_promises_more_than_they_cost() -> None:
    children = three(a=0.6, b=0.7, c=0.9)
    chooser = Lookahead(Scored(a=0.3, b=0.95, c=0.9), weight=0.0)
    completion, call = answer(Routed(card(*children), children, chooser, 3))
    assert [step["ask"] for step in call.trace] == ["c", "b", "a", None]
    assert completion.text == "b", "the best of those that answered"
    dear = Lookahead(Scored(a=0.3, b=0.95, c=0.9), weight=20.0, stderr=0.1)
    completion, call = answer(Routed(card(*children), children, dear, 3))
    assert [step["ask"] for step in call.trace] == ["b", None], "c costs more than it brings"


def test_one_call_at_most_is_plain_routing() -> None:
    children = three(a=0.6, b=0.7, c=0.9)
    chooser = Lookahead(Scored(a=0.1, b=0.1, c=0.1), weight=0.0)
    completion, call = answer(Routed(card(*children), children, chooser, 1))
    assert completion.text == "c"
    assert call.below.calls == 1


def test_routing_does_without_who_fails() -> None:
    broken = scripted("c", DOWN, quality=0.9)
    children: list[Expert] = [scripted("a", "a", quality=0.6), broken]
    chooser = Lookahead(Scored(a=0.9), weight=0.0)
    completion, _ = answer(Routed(card(*children), children, chooser, 2))
    assert completion.text == "a"
    with pytest.raises(ExpertCallError):
        answer(Routed(card(broken), [broken], chooser, 2))


@pytest.mark.parametrize(
    ("mean", "stderr", "floor"), [(0.5, 0.2, 0.5), (0.9, 0.1, 0.2), (0.1, 0.3, 0.8)]
)
def test_the_expected_best_is_clarks(mean: float, stderr: float, floor: float) -> None:
    steps = [floor + (i + 0.5) * 1e-3 for i in range(4000)]
    density = [
        math.exp(-(((x - mean) / stderr) ** 2) / 2) / (stderr * math.sqrt(2 * math.pi))
        for x in steps
    ]
    by_hand = sum((x - floor) * d for x, d in zip(steps, density, strict=True)) * 1e-3
    assert expected_excess(mean, stderr, floor) == pytest.approx(by_hand, abs=1e-4)


def test_a_composition_in_a_composition_is_tallied_once() -> None:
    one = scripted("one", "Paris")
    vote = Vote(
        composed_card("vote", [Share(one.card, 3)], [Share(one.card)]), [Voter(one, 3)], at_once=1
    )
    large = scripted("large", "final", price=10)
    cascade = Cascade(card(vote, large), [Stage(vote, rule(Paris=0.5))], large)
    completion, call = answer(cascade)
    assert call.below.calls == 3
    assert call.below.nanousd == 2 * 15_000 + 150_000
    assert completion.usage == Usage(input=30, output=15)
