"""Anthropic's bodies at the edges of what is translated."""

from __future__ import annotations

from typing import Any

import pytest

from experts.cards import ExpertCard
from experts.wire.anthropic import AnthropicDialect, Habits
from gateway.access.keys import Key
from gateway.api.messages_in import parse_messages
from gateway.ask import Ask

HELLO: dict[str, Any] = {"role": "user", "content": "Hi"}


def parsed(*messages: dict[str, Any], **fields: Any) -> Ask:
    body = {"model": "m", "max_tokens": 9000, "messages": [*messages], **fields}
    return parse_messages(body, {}, Key("me"))


@pytest.mark.parametrize(
    ("tokens", "effort"),
    [(1024, "low"), (2048, "low"), (2049, "medium"), (8192, "medium"), (8193, "high")],
)
def test_a_budget_of_thought_is_an_effort(tokens: int, effort: str) -> None:
    thinking = {"type": "enabled", "budget_tokens": tokens}
    assert parsed(HELLO, thinking=thinking).request.params["reasoning_effort"] == effort


def test_a_turn_of_nothing_but_another_experts_thought_is_left_out() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    asked = parsed(HELLO, {"role": "assistant", "content": [thought]}, HELLO)
    sent = AnthropicDialect(ExpertCard("c"), Habits()).body(asked.request, "m")
    assert sent["messages"] == [HELLO, HELLO]
