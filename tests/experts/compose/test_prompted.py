"""What is told with a question: templates, examples, options in other orders, modes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.compose.choices import choices_in, lettered, picked, rotated
from experts.compose.medprompt import Medprompt
from experts.compose.mode import INSTRUCTIONS, Mode
from experts.compose.shelves import Example, Templated
from experts.errors import ExpertUnavailableError
from experts.fakes.scripted import ScriptedExpert
from experts.messages import ChatRequest, Message
from tests.experts.compose.asking import Actor, asked, card, question

CAPITAL = (
    "What is the capital of Peru?\nA) Lima\nB) Cusco\nC) Quito\nD) La Paz\nAnswer with a letter."
)


@dataclass(frozen=True)
class Told:
    question: str
    text: str


class Row:
    """A shelf that has these and notes what was looked for."""

    def __init__(self, *examples: Told) -> None:
        self.asked: list[str] = []
        self._examples = examples

    async def near(self, question: str, most: int) -> Sequence[Example]:
        self.asked.append(question)
        return self._examples[:most]


def test_templates_stand_before_the_question() -> None:
    one, shelf = Actor("one", "said"), Row(Told("2 + 2?", "Count\nup."), Told("3 + 3?", "Add."))
    answer, call = asked(Templated(card(one), one, shelf, most=1), question("4 + 4?"))
    assert answer.text == "said"
    assert call.below.calls == 1
    assert shelf.asked == ["4 + 4?"]
    (request,) = one.requests
    assert request.question.endswith("The question:\n\n4 + 4?")
    assert "- For questions like: 2 + 2?\n  Count up." in request.question
    assert "3 + 3?" not in request.question


def test_without_a_template_it_is_the_plain_call() -> None:
    one, request = Actor("one", "said"), question("4 + 4?")
    asked(Templated(card(one), one, Row()), request)
    assert one.requests == [request]


texts = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(st.lists(texts, min_size=2, max_size=10), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_reordering_options_is_a_bijection(options: list[str], shuffler: object) -> None:
    listed = "\n".join(f"{'ABCDEFGHIJ'[n]}. {option}" for n, option in enumerate(options))
    text = f"Which one?\n{listed}\nSay why."
    found = choices_in(text)
    assert found is not None
    assert found.options == tuple(options)
    order = list(range(len(options)))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    put = found.reordered(order)
    again = choices_in(put)
    assert again is not None
    assert again.options == tuple(options[place] for place in order)
    back = [order.index(place) for place in range(len(order))]
    assert again.reordered(back) == text


def test_rotations_put_each_option_once_under_each_letter() -> None:
    for count in range(2, 6):
        square = np.array([rotated(count, times) for times in range(count)])
        assert all(sorted(column) == list(range(count)) for column in square.T)
        assert rotated(count, 0) == tuple(range(count))


@pytest.mark.parametrize(
    "text",
    ["Plain question?", "A) only one", "B) starts\nC) late", "A) one\nC) gap", ""],
)
def test_what_has_no_options_is_left_alone(text: str) -> None:
    assert choices_in(text) is None


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("B", 1),
        ("(B) Cusco", 1),
        ("B) Cusco", 1),
        ("The answer is B.", 1),
        ("A is wrong. Answer: C", 2),
        ("I think option D is right", 3),
        ("It must be Quito, clearly.", 2),
        ("Lima or Cusco", None),
        ("A city in Peru", None),
        ("Answer: J", None),
    ],
)
def test_the_option_that_an_answer_means(answer: str, option: int | None) -> None:
    assert picked(answer, ["Lima", "Cusco", "Quito", "La Paz"]) == option


def shown(request: ChatRequest) -> dict[str, str]:
    """Letter to option, as the request has it."""
    return dict(re.findall(r"(?m)^([A-D])\) (.*)$", request.question))


def test_answers_are_put_back_before_they_are_counted() -> None:
    def knows(request: ChatRequest, times: int) -> str:
        letter = next(letter for letter, option in shown(request).items() if option == "Lima")
        return f"Answer: {letter}"

    one, shelf = Actor("one", knows), Row(Told("Capital of Chile?", "Santiago, since..."))
    answer, call = asked(Medprompt(card(one), one, shelf, at_once=1), question(CAPITAL))
    assert answer.text == "Answer: A"
    assert call.below.calls == 3, "three of five can't be turned"
    roles = [message.role for message in one.requests[0].messages]
    assert roles == ["user", "assistant", "user"]
    orders = [tuple(shown(request).values()) for request in one.requests]
    assert len(set(orders)) == 3


def test_a_winner_of_another_order_is_given_as_the_option_itself() -> None:
    def confused(request: ChatRequest, times: int) -> str:
        return "Hm." if times == 0 else lettered_as(request, "Cusco")

    one = Actor("one", confused)
    answer, _ = asked(Medprompt(card(one), one, None, runs=3), question(CAPITAL))
    assert answer.text == lettered(1, ["Lima", "Cusco"])
    assert answer.choices[0].finish_reason == "stop"


def test_answers_that_name_no_option_do_not_say_the_same() -> None:
    one = Actor("one", lambda _request, times: ["A", "Hm.", "Who knows?"][times])
    answer, _ = asked(Medprompt(card(one), one, None, runs=3), question(CAPITAL))
    assert answer.text == "A"


def lettered_as(request: ChatRequest, option: str) -> str:
    letter = next(letter for letter, own in shown(request).items() if own == option)
    return f"Since it is so, the answer is {letter}."


def test_other_questions_are_voted_on_as_they_are() -> None:
    one = Actor("one", lambda _request, times: ["It is 4", "5", "it is 4."][times])
    answer, call = asked(Medprompt(card(one), one, None, runs=3), question("2 + 2?"))
    assert answer.text == "It is 4"
    assert call.below.calls == 3


@pytest.mark.parametrize(
    ("needs", "won"),
    [("Yes, it does.", "reasoned"), ("No", "direct"), ("Perhaps", "direct")],
    ids=["twice", "half", "alike"],
)
def test_reasoning_counts_as_the_model_says_that_it_is_needed(needs: str, won: str) -> None:
    """One run reasons against two that don't: 2 to 2 goes to who was asked first."""

    def says(request: ChatRequest, times: int) -> str:
        if "scratch-pad" in request.question:
            return needs
        return "reasoned" if "Add up" in request.messages[1].text else "direct"

    one, shelf = Actor("one", says), Row(Told("2 + 2?", "Add up. Answer: 4"))
    plus = Medprompt(card(one), one, shelf, runs=1, direct=2)
    answer, call = asked(plus, question("3 + 3?"))
    assert answer.text == won
    assert call.below.calls == len(one.requests) == 4
    assert [request.messages[1].text for request in one.requests[2:]] == ["4", "4"]
    assert one.requests[0].max_tokens == 8


def test_it_fails_as_its_expert_does() -> None:
    broken = ScriptedExpert(card(Actor("x", "")), [ExpertUnavailableError("x", "down")])
    with pytest.raises(ExpertUnavailableError, match="down"):
        asked(Medprompt(card(broken), broken, None), question(CAPITAL))


def test_a_liking_for_a_letter_costs_no_vote() -> None:
    """A model says A with probability b, else what it believes; it believes the truth or one error.

    Asked once it is right with b · P(truth is A) + (1 − b) · a. Over all rotations its liking for A
    gives every option one vote alike, so what it believes decides.
    """
    rng = np.random.default_rng(0)
    options = ("Lima", "Cusco", "Quito", "La Paz")
    bias, knows, count = 0.5, 0.8, 150
    once = right = 0
    for _ in range(count):
        truth = int(rng.integers(4))
        wrong = int(rng.integers(4))
        belief = options[truth if rng.random() < knows else wrong]

        def says(request: ChatRequest, times: int, belief: str = belief) -> str:
            letter = next(key for key, option in shown(request).items() if option == belief)
            return "A" if rng.random() < bias else letter

        one = Actor("one", says)
        answer, _ = asked(Medprompt(card(one), one, None, runs=8), question(CAPITAL))
        meant = picked(answer.text, options)
        right += meant == truth
        first = picked(says(question(CAPITAL), 0), options)
        once += first == truth
    expected_once = bias / 4 + (1 - bias) * (knows + (1 - knows) / 4)
    assert once / count == pytest.approx(expected_once, abs=4 * (0.25 / count) ** 0.5)
    assert right / count > expected_once + 0.2


def test_all_orders_of_a_few_options_are_read_back() -> None:
    options = ("red", "green", "blue")
    found = choices_in("Pick:\n(A) red\n(B) green\n(C) blue")
    assert found is not None
    for order in permutations(range(3)):
        again = choices_in(found.reordered(order))
        assert again is not None
        assert again.options == tuple(options[place] for place in order)


def test_a_mode_says_how_and_keeps_the_clients_wishes() -> None:
    one = Actor("one", "said")
    params = {"reasoning_effort": "high"}
    mode = Mode(card(one), one, INSTRUCTIONS["reasoning"], params, max_tokens=2000)
    request = ChatRequest(
        (Message("system", "Be kind."), Message("user", "Why?")),
        params={"reasoning_effort": "low", "temperature": 0.0},
    )
    asked(mode, request)
    asked(mode, question("Why?", max_tokens=9))
    first, second = one.requests
    assert [m.content for m in first.messages] == ["Be kind.", INSTRUCTIONS["reasoning"], "Why?"]
    assert first.params == {"reasoning_effort": "high", "temperature": 0.0}
    assert (first.max_tokens, second.max_tokens) == (2000, 9)
