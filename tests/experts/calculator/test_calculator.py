"""The calculator answers what is arithmetic, says so when it isn't, and never fails."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.base import Call
from experts.calculator.calculator import NOT_MINE, CalculatorExpert
from experts.cards import ExpertCard
from experts.errors import ExpertConfigError
from experts.messages import ChatRequest, Completion, Delta, Finish, Message, Usage, collect


async def no_children(*_: object) -> None:
    raise AssertionError("a calculator asks nobody")


CALL = Call(run=no_children)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def calculator() -> CalculatorExpert:
    try:
        return CalculatorExpert(ExpertCard("calculator"))
    except ExpertConfigError as error:
        pytest.skip(str(error))


def ask(calculator: CalculatorExpert, *turns: str) -> Completion:
    roles = ["user", "assistant"] * len(turns)
    messages = tuple(Message(role, turn) for role, turn in zip(roles, turns, strict=False))
    return anyio.run(collect, calculator.answer(ChatRequest(messages), CALL))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 17 * 23?", "391"),
        ("Compute (12.5 + 7) / 3", "6.5"),
        ("15% of 240", "36"),
        ("2 to the power of 10", "1024"),
        ("How many centimetres are in 3.5 metres?", "350 centimetres"),
        ("Convert 5 miles to kilometres.", "8.04672 kilometres"),
        ("square root of 144", "12"),
        ("What's 12 x 7? Answer with just the number.", "84"),
        ("Hello! Can you tell me what is 6 times 7, please?", "42"),
        ("Please multiply 6 by 7.", "42"),
        ("12*7=", "84"),
        ("20 - 5 - 3", "12"),
        ("How much does 45 plus 55 make?", "100"),
        ("Calculate the following:\n3 + 4", "7"),
        ("What is 9/11?", "9/11 ≈ 0.818181818182"),
        ("WHAT IS THE SUM OF THREE AND FOUR", "7"),
        ("What is 1/0?", "This can't be worked out: division by zero has no result."),
        ("9**9**9", "This can't be worked out: the result has too many digits to write down."),
    ],
)
def test_it_works_out(calculator: CalculatorExpert, question: str, answer: str) -> None:
    assert ask(calculator, question).text == answer


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is the capital of Peru?",
        "Tom has 3 apples and buys 4 more. How many apples does he have?",
        "Is 7 + 5 equal to 12?",
        "What is 2 + 2? Then double it.",
        "What is 2 + 2? What is 3 + 3?",
        "What is 10 / 4? Round to the nearest integer.",
        "If x = 3, what is x + 4?",
        "9/11",
        "2024-05-01",
        "Call 555-1234.",
        "555-1234",
        "What is 42?",
        "How old is Ruth? Ruth, who is 34, lives with her brother Paul, 29.",
        "5 + 3" + " " * 500,
    ],
)
def test_what_is_no_sum_is_declined_in_one_sentence(
    calculator: CalculatorExpert, question: str
) -> None:
    assert ask(calculator, question).text == NOT_MINE


def test_only_the_last_question_counts(calculator: CalculatorExpert) -> None:
    assert ask(calculator, "What is 1 + 1?", "2", "And a poem?").text == NOT_MINE
    assert ask(calculator, "A poem, please.", NOT_MINE, "What is 1 + 1?").text == "2"


def test_it_streams_text_reason_and_usage(calculator: CalculatorExpert) -> None:
    async def events() -> list[object]:
        request = ChatRequest((Message("user", "What is 6 * 7?"),))
        return [event async for event in calculator.answer(request, CALL)]

    assert anyio.run(events) == [Delta("42"), Finish("stop"), Usage(input=5, output=1)]


@given(st.text(max_size=200))
def test_no_question_makes_it_fail(calculator: CalculatorExpert, question: str) -> None:
    assert calculator.work_out(question) != ""


WORDS = (
    "what is convert how many in to 3 4.5 1,000 plus minus times sum of and per square metres "
    "feet hours % / * ( ) - ^ half percent seven million ² √ ? . ! = °c"
)


@given(st.lists(st.sampled_from(WORDS.split()), max_size=40).map(" ".join))
def test_no_jumble_of_its_own_words_makes_it_fail(
    calculator: CalculatorExpert, question: str
) -> None:
    assert calculator.work_out(question) != ""


@given(st.integers(-999, 999), st.integers(-999, 999), st.sampled_from(["+", "-", "*"]))
def test_it_is_right(calculator: CalculatorExpert, left: int, right: int, sign: str) -> None:
    truth = {"+": left + right, "-": left - right, "*": left * right}[sign]
    assert calculator.work_out(f"What is {left} {sign} {right}?") == str(truth)
