"""The answer is let through as it is written, and nothing else is."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.compose.rounds.answering import AnswerReader

TURN = "<think>a <b> c</think>\n<answer> Lima, <i>not</i> Quito </answer>"


def read(pieces: list[str]) -> list[str]:
    reader = AnswerReader()
    return [*(reader.add(piece) for piece in pieces), reader.end()]


@given(st.lists(st.integers(0, len(TURN)), max_size=12))
def test_wherever_it_is_cut_the_answer_is_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TURN)]
    pieces = [TURN[start:end] for start, end in pairwise(edges)]
    assert "".join(read(pieces)) == "Lima, <i>not</i> Quito"


def test_it_comes_letter_by_letter() -> None:
    new = read(list("<answer>one two</ans"))
    assert new[len("<answer>") : len("<answer>one two")] == ["o", "n", "e", "", " t", "w", "o"]
    assert new[-1] == "</ans", "it was no closing tag after all"


@pytest.mark.parametrize(
    "turn",
    [
        "<think>a</think>",
        "<search>a: b</search><answer>c</answer>",
        "plain",
        "<answer> </answer>",
        "",
    ],
)
def test_a_turn_without_an_answer_lets_nothing_through(turn: str) -> None:
    reader = AnswerReader()
    assert reader.add(turn) + reader.end() == ""
    assert not reader.begun


def test_an_answer_without_its_closing_tag_is_whole_unless_a_limit_cut_it() -> None:
    reader = AnswerReader()
    assert reader.add("<answer>Lima ") + reader.end() == "Lima"
    assert not reader.cut
    reader.reason = "length"
    assert reader.cut
