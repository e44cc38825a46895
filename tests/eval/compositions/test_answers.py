"""Answers that say the same are recognised, whatever words stand around what they say."""

from __future__ import annotations

import numpy as np
import pytest

from eval.compositions.answers import answer_key, same_answers

CHOICES = "Which one?\nA) red\nB) blue\nC) green\nAnswer:"


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        (CHOICES, "B", "B) blue"),
        (CHOICES, "(b)", "The correct answer is B."),
        ("How many?", "So it is 1,250 in all.", "The answer is $1250."),
        ("How many?", "3.50", "That makes 3.5"),
        (
            "Write f",
            "```python\ndef f():\n  return 1\n```",
            "Here:\n```\ndef f():\n    return 1\n```",
        ),
        ("Who?", "Ada Lovelace", "ada lovelace!"),
    ],
)
def test_the_same_in_other_words(prompt: str, first: str, second: str) -> None:
    assert answer_key(prompt, first) == answer_key(prompt, second)


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        (CHOICES, "A", "B"),
        ("How many?", "It is 12", "It is 13"),
        ("Who?", "Ada Lovelace", "Alan Turing"),
    ],
)
def test_what_differs(prompt: str, first: str, second: str) -> None:
    assert answer_key(prompt, first) != answer_key(prompt, second)


def test_calls_of_tools_are_the_same_in_any_syntax() -> None:
    ways = [
        '"triangle.area(base=10, height=5)"',
        '[{"triangle.area": "{\\"base\\": 10, \\"height\\": 5}"}]',
        '<tool_call>{"arguments": {"height": 5, "base": 10}, "name": "triangle_area"}</tool_call>',
    ]
    keys = {answer_key("Area?", way, calls=True) for way in ways}
    assert len(keys) == 1
    assert answer_key("Area?", "triangle.area(base=10, height=6)", calls=True) not in keys
    assert answer_key("Area?", "I can't do that.", calls=True) == "no call"


def test_who_agrees_with_whom() -> None:
    same = same_answers(["How many?"], [("It is 4", "4 of them", "5", None)])
    assert same[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert same.dtype == np.float64
