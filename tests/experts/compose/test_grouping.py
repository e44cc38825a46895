"""Which answers say the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from experts.compose.base import Reply
from experts.compose.grouping import EXACT, NUMERIC, ByMeaning, Grouping
from experts.messages import Choice, Completion


def reply(index: int, text: str, *calls: dict[str, Any]) -> Reply:
    return Reply(index, "a", (), Completion((Choice(text, "stop", calls),), None))


def groups(grouping: Grouping, *texts: str) -> list[int]:
    replies = [reply(index, text) for index, text in enumerate(texts)]
    return anyio.run(grouping.groups, replies)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Paris", "paris.", True),
        ("I think so. The answer is: Paris", "#### Paris", True),
        ("so \\boxed{x+1}", "x+1", True),
        ("so \\boxed{\\frac{1}{2}}", "thus \\boxed{\\frac{1}{2}}", True),
        ("the Seine", "Seine", True),
        ("Paris", "London", False),
        ("A", "A.", True),
        ("A", "", False),
        ("3.5", "35", False),
        ("-3", "3", False),
        ("a < b", "a > b", False),
        ("\uff50aris", "Paris", True),
    ],
)
def test_words_are_compared_without_how_they_are_dressed(one: str, other: str, same: bool) -> None:
    assert groups(EXACT, one, other) == [0, 0 if same else 1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("It costs $1,200.", "1200", True),
        ("7 boxes of 6 are 42.", "So she has 42 of them", True),
        ("25%", "0.25", True),
        ("1/4", "0.25", True),
        ("so \\boxed{\\frac{1}{4}}", "0.25", True),
        ("-\\dfrac{1}{4}", "-0.25", True),
        ("\\boxed{\\frac{3}{2}}", "\\boxed{\\frac{1}{2}}", False),
        ("3 apples", "4 apples", False),
        ("2.50", "2.5", True),
        ("1e3", "1000", True),
        ("none", "none at all", False),
    ],
)
def test_numbers_are_compared_by_value(one: str, other: str, same: bool) -> None:
    assert groups(NUMERIC, one, other) == [0, 0 if same else 1]


def test_calls_of_tools_are_the_same_whatever_the_order_of_their_arguments() -> None:
    def call(name: str, arguments: str) -> dict[str, Any]:
        return {"id": "x", "function": {"name": name, "arguments": arguments}}

    replies = [
        reply(0, "", call("find", '{"a": 1, "b": 2}')),
        reply(1, "", call("find", '{"b": 2, "a": 1}')),
        reply(2, "", call("find", '{"a": 1}')),
        reply(3, "", call("seek", '{"a": 1}')),
        reply(4, "", call("seek", "{broken")),
    ]
    assert anyio.run(EXACT.groups, replies) == [0, 0, 1, 2, 3]


async def all_alike(texts: Sequence[str]) -> Sequence[Sequence[float]]:
    return [(1.0, 0.0) for _ in texts]


@pytest.mark.parametrize("grouping", [EXACT, NUMERIC, ByMeaning(all_alike, 0.85)])
def test_calls_of_whatever_kind_are_compared_and_not_the_text_that_they_lack(
    grouping: Grouping,
) -> None:
    def custom(text: str) -> dict[str, Any]:
        return {"id": "x", "type": "custom", "custom": {"name": "run", "input": text}}

    def old(index: int, arguments: str) -> Reply:
        fields = {"function_call": {"name": "find", "arguments": arguments}}
        return Reply(index, "a", (), Completion((Choice("", "stop", fields=fields),), None))

    replies = [
        reply(0, "", {"id": "x", "function": {"name": "find", "arguments": "{}"}}),
        reply(1, "", custom("ls -l")),
        reply(2, "", custom("rm -r")),
        reply(3, "", custom("ls -l")),
        old(4, "{}"),
        old(5, '{"a": 1}'),
        reply(6, ""),
    ]
    assert anyio.run(grouping.groups, replies) == [0, 1, 2, 1, 0, 3, 4]


def test_by_meaning_each_joins_the_group_it_is_most_like() -> None:
    vectors = {"a": (1.0, 0.0), "b": (0.0, 1.0), "near a": (0.9, 0.436), "between": (0.707, 0.707)}

    async def encode(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return [vectors[text] for text in texts]

    assert groups(ByMeaning(encode, 0.85), "a", "b", "near a", "between") == [0, 1, 0, 2]
    assert groups(ByMeaning(encode, 0.7), "a", "b", "near a", "between") == [0, 1, 0, 0]
