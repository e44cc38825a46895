"""Choices of chunks that clients would fail at, and those that are left as they came."""

from __future__ import annotations

from typing import Any

import pytest

from experts.wire.tool_calls import ToolCallPieces
from gateway.fast.deltas import fit_choice

SAYS = {"content": "Li"}


@pytest.mark.parametrize(
    ("choice", "fit"),
    [
        ({"delta": SAYS}, {"index": 0, "delta": SAYS}),
        ({"finish_reason": "stop"}, {"index": 0, "delta": {}, "finish_reason": "stop"}),
        ({"index": 1, "finish_reason": "stop"}, {"index": 1, "delta": {}, "finish_reason": "stop"}),
        ({"index": 1, "delta": None}, {"index": 1, "delta": {}}),
        (
            {"index": 1, "delta": {"content": [{"type": "text", "text": "Li"}, {"text": "ma"}]}},
            {"index": 1, "delta": {"content": "Lima"}},
        ),
        ({"index": False, "delta": [], "logprobs": 5}, {"index": 0, "delta": {}, "logprobs": None}),
        (
            {"delta": {"refusal": [1]}, "finish_reason": ""},
            {"index": 0, "delta": {}, "finish_reason": None},
        ),
        (
            {"index": 0, "delta": {"tool_calls": [{"id": "c", "function": {"name": "f"}}]}},
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {
                            **{"index": 0, "id": "c", "type": "function"},
                            "function": {"name": "f", "arguments": ""},
                        }
                    ]
                },
            },
        ),
    ],
)
def test_what_clients_fail_at_is_said_so_that_they_do_not(
    choice: dict[str, Any], fit: dict[str, Any]
) -> None:
    assert fit_choice(choice, ToolCallPieces(), begun=True) == fit


def test_a_sound_choice_is_left_as_it_came() -> None:
    sound = {"index": 1, "delta": SAYS}
    assert fit_choice(sound, ToolCallPieces(), begun=True) is sound
    first = {"index": 0, "delta": {"role": "assistant"}}
    assert fit_choice(first, ToolCallPieces(), begun=False) is first
    assert fit_choice(first, ToolCallPieces(), begun=True) == {"index": 0, "delta": {}}
    assert fit_choice({"delta": {"role": "user", **SAYS}}, ToolCallPieces(), begun=False) == {
        "index": 0,
        "delta": SAYS,
    }


def test_pieces_of_calls_that_are_none_leave_nothing_behind() -> None:
    odd = {"delta": {"tool_calls": [5], **SAYS}}
    assert fit_choice(odd, ToolCallPieces(), begun=True) == {"index": 0, "delta": SAYS}
