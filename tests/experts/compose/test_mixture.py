"""Mixtures make exactly the calls of their formula, in bounded context, and lose no dissent."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.base import Call
from experts.cards import ExpertCard
from experts.compose.drafts import Drafting, as_draft, told
from experts.compose.mixture import Mixture, SequentialMixture, Team, syntheses
from experts.compose.panel import Panel
from experts.compose.peers import PrimaryWithPeers
from experts.compose.vote import Voter
from experts.errors import ExpertCallError, ExpertUnavailableError
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Message
from tests.experts.compose.asking import Actor, asked, card, question


def down(name: str) -> ScriptedExpert:
    return ScriptedExpert(ExpertCard(name), [ExpertUnavailableError(name, "down")])


def counting(name: str) -> Actor:
    return Actor(name, lambda _request, times: f"{name} {times}")


def numbers_in(request: ChatRequest) -> list[str]:
    return re.findall(r"(?m)^\[\d+\] (.*)$", request.text)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_mixture_makes_n_times_layers_less_one_calls_and_one(count: int, layers: int) -> None:
    proposers = [counting(f"p{n}") for n in range(count)]
    last = Actor("last", "whole")
    mixture = Mixture(card(*proposers, last), Team(tuple(proposers), last), layers=layers)
    answer, call = asked(mixture)
    assert answer.text == "whole"
    assert call.below.calls == count * (layers - 1) + 1
    assert answer.usage is not None
    assert answer.usage.output == count * (layers - 1) + 1
    if layers > 1:
        assert numbers_in(last.requests[0]) == [f"p{n} {layers - 2}" for n in range(count)]
    for each in proposers:
        seen = [len(numbers_in(request)) for request in each.requests]
        assert seen == [0, count, count][: layers - 1]


def test_one_layer_is_the_plain_call() -> None:
    one = Actor("one", "said")
    request = question("Why?", params={"temperature": 0.1})
    answer, _ = asked(Mixture(card(one), Team((one,), one), layers=1), request)
    assert one.requests == [request]
    assert answer.text == "said"


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 12), window=st.integers(2, 6))
def test_a_window_bounds_what_is_read_however_many_drafts_there_are(
    count: int, window: int
) -> None:
    one = Actor("one", lambda request, times: f"draft{times}")
    last = Actor("last", lambda request, times: f"synthesis{times}")
    team = Team((one,) * count, last)
    answer, call = asked(SequentialMixture(card(one, last), team, window=window))
    rounds = syntheses(count, window)
    assert call.below.calls == count + rounds
    assert rounds == max(1, -(-(count - 1) // (window - 1)))
    assert answer.text == f"synthesis{rounds - 1}"
    seen = [numbers_in(request) for request in last.requests]
    assert all(len(each) <= window for each in seen)
    read = [text for each in seen for text in each if text.startswith("draft")]
    assert sorted(read) == sorted(f"draft{n}" for n in range(count))
    for turn, each in enumerate(seen[1:]):
        assert each[0] == f"synthesis{turn}"


@pytest.mark.parametrize("window", [None, 2], ids=["at once", "window"])
def test_drafts_that_fail_are_done_without_until_too_few_are_left(window: int | None) -> None:
    good, last = Actor("good", "mine"), Actor("last", "whole")
    proposers = (down("x"), good, down("y"))

    def made(needed: int) -> Mixture | SequentialMixture:
        team, of = Team(proposers, last), card(*proposers, last)
        if window is None:
            return Mixture(of, team, drafting=Drafting(min_successful=needed))
        return SequentialMixture(of, team, window=window, drafting=Drafting(min_successful=needed))

    answer, _ = asked(made(1))
    assert answer.text == "whole"
    assert numbers_in(last.requests[-1]) == ["mine"]
    with pytest.raises(ExpertUnavailableError, match="down"):
        asked(made(2))


def test_who_writes_nothing_has_not_drafted() -> None:
    blank, one, last = Actor("blank", " \n"), Actor("one", "said"), Actor("last", "whole")
    answer, call = asked(Mixture(card(blank, one, last), Team((blank, one), last)))
    assert answer.text == "whole"
    assert numbers_in(last.requests[0]) == ["said"]
    assert call.trace[0]["drafts"] == ["one"]


def test_a_synthesis_on_the_way_without_words_is_passed_over() -> None:
    one, last = counting("one"), Actor("last", lambda _request, times: (" ", "whole")[times])
    asked(SequentialMixture(card(one, last), Team((one,) * 3, last), window=2))
    assert [numbers_in(request) for request in last.requests] == [
        ["one 0", "one 1"],
        ["one 0", "one 2"],
    ]


def test_a_later_layer_that_fails_leaves_the_drafts_of_the_one_before() -> None:
    tired = ScriptedExpert(
        ExpertCard("tired"), says("mine"), [ExpertUnavailableError("tired", "gone")]
    )
    last = Actor("last", "whole")
    answer, _ = asked(Mixture(card(tired, last), Team((tired,), last), layers=3))
    assert answer.text == "whole"
    assert numbers_in(last.requests[0]) == ["mine"]


def test_without_an_aggregator_a_draft_is_the_answer() -> None:
    good, gone = Actor("good", "mine"), down("gone")
    answer, call = asked(Mixture(card(good, gone), Team((good, good), gone)))
    assert answer.text == "mine"
    assert call.trace[-1] == {"child": "gone", "failed": "unavailable"}


class Names:
    """A chooser that names the same seats always."""

    def __init__(self, *seats: int) -> None:
        self._seats = seats

    async def choose(
        self, request: ChatRequest, cards: Sequence[ExpertCard], seats: int, call: Call
    ) -> Sequence[int]:
        assert seats == 3
        return self._seats


def test_who_takes_part_can_be_chosen_per_request() -> None:
    a, b, c = Actor("a", "a says"), Actor("b", "b says"), Actor("c", "c says")
    team, of = Team((a, b, c), c), card(a, b, c)
    answer, _ = asked(Mixture(of, team, chooser=Names(1, 1, 1)))
    assert answer.text == "b says"
    assert (len(a.requests), len(b.requests), len(c.requests)) == (0, 4, 0)
    answer, _ = asked(Mixture(of, team, chooser=Names()))
    assert answer.text == "c says"
    told_by = len(b.requests), len(c.requests)
    answer, _ = asked(PrimaryWithPeers(of, Team((b, c), a), chooser=Names(1, 2, 2)))
    assert answer.text == "b says"
    assert (len(b.requests), len(c.requests)) == (told_by[0] + 1, told_by[1] + 1)


def test_without_peers_the_primary_is_asked_as_it_is() -> None:
    one = Actor("one", "said")
    request = question()
    assert asked(PrimaryWithPeers(card(one), Team((), one)), request)[0].text == "said"
    assert one.requests == [request]


def test_peers_write_briefly_and_the_primary_once_even_if_some_fail() -> None:
    peer, primary = Actor("peer", "I think\nso"), Actor("primary", "whole")
    team = Team((peer, down("gone")), primary)
    answer, call = asked(
        PrimaryWithPeers(card(peer, primary), team, draft_tokens=64), question(max_tokens=500)
    )
    assert answer.text == "whole"
    assert call.below.calls == 3
    assert [request.max_tokens for request in peer.requests] == [64]
    (request,) = primary.requests
    assert "- I think so" in request.text
    assert request.max_tokens == 500


def test_there_is_no_answer_without_the_primary() -> None:
    peer = Actor("peer", "so")
    with pytest.raises(ExpertCallError, match="down"):
        asked(PrimaryWithPeers(card(peer), Team((peer,), down("primary"))))


def test_a_judge_sees_every_dissent_with_its_weight() -> None:
    most = [Actor(f"m{n}", f"Well, {n}. Answer: 4") for n in range(3)]
    few = [Actor("d0", "Carry the one. Answer: 5"), Actor("d1", "I count five. Answer: 5")]
    judge = Actor("judge", "It is 5.")
    members = [Voter(each) for each in (*most, *few)]
    answer, call = asked(Panel(card(*most, *few, judge), members, judge))
    assert answer.text == "It is 5."
    assert call.below.calls == 6
    shown = judge.requests[0].text
    assert "weight 60%, 3 answers" in shown
    assert "weight 40%, 2 answers" in shown
    assert "Well, 0." in shown
    assert "Well, 1." not in shown
    assert "Carry the one." in shown
    assert "I count five." in shown


def test_weights_order_positions_and_the_heaviest_stands_in_for_the_judge() -> None:
    a, b = Actor("a", "Answer: 4"), Actor("b", "Answer: 5")
    members = [Voter(a, 2, 1.0), Voter(b, 1, 6.0)]
    answer, call = asked(Panel(card(a, b), members, down("judge")))
    assert answer.text == "Answer: 5"
    assert call.trace[0]["positions"] == [[0.75, 1], [0.25, 2]]


def test_drafts_call_no_tools_and_have_no_set_form() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    request = question(
        "Why?",
        params={"tools": [tool], "response_format": {"type": "json_object"}, "seed": 3},
        stream=True,
    )
    draft = as_draft(request, max_tokens=9, temperature=0.7)
    wanted = {"tools": [tool], "tool_choice": "none", "seed": 3, "temperature": 0.7}
    assert dict(draft.params) == wanted
    assert (draft.max_tokens, draft.stream) == (9, False)
    cold = question(params={"temperature": 0.0})
    assert as_draft(cold, temperature=1.0).params == {"temperature": 1.0}
    assert as_draft(cold).params == cold.params
    short = question(max_tokens=5)
    assert as_draft(short, max_tokens=9).max_tokens == 5, "no longer than the answer may be"


def test_what_is_told_stands_in_the_users_turn() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    conversation = (
        Message("system", "Be kind."),
        Message("user", (image,)),
        Message("assistant", "Hm."),
    )
    found = told(ChatRequest(conversation), "Drafts")
    assert found.messages[0] == conversation[0]
    assert found.messages[1].content == ({"type": "text", "text": "Drafts\n\n"}, image)
    assert found.messages[2] == conversation[2]
