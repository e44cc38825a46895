"""Choices of chunks that clients would fail at, and those that are left as they came."""

from __future__ import annotations

from typing import Any

import pytest

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
    ],
)
def test_what_clients_fail_at_is_said_so_that_they_do_not(
    choice: dict[str, Any], fit: dict[str, Any]
) -> None:
    assert fit_choice(choice, begun=True) == fit


def test_a_sound_choice_is_left_as_it_came() -> None:
    sound = {"index": 1, "delta": SAYS}
    assert fit_choice(sound, begun=True) is sound
    first = {"index": 0, "delta": {"role": "assistant"}}
    assert fit_choice(first, begun=False) is first
    assert fit_choice(first, begun=True) == {"index": 0, "delta": {}}
