"""Answer modes: the same model at once, or thinking first, as experts of their own.

Source: Chen et al., "A²FM: An Adaptive Agent Foundation Model for Tool-Aware Hybrid Reasoning",
2025. Its agentic mode is a multi-round composition.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.base import ChildRequest, Composed, relay, used
from experts.messages import ChatRequest, Event, Message

INSTRUCTIONS = MappingProxyType(
    {
        "instant": "Answer at once: give the result alone, without any steps towards it.",
        "reasoning": (
            "Think step by step before you answer: work it out, check the result, and end with a "
            "line that begins with 'Answer:'."
        ),
    }
)


class Mode(Composed):
    """Another expert, asked in one mode.

    Args:
        card: Its card.
        inner: Who answers.
        instruction: What it is told as a system message; "" nothing.
        params: Request fields that make the mode (`reasoning_effort`, `chat_template_kwargs`, ...);
            they replace the client's.
        max_tokens: Longest answer where the client sets none.
    """

    def __init__(
        self,
        card: ExpertCard,
        inner: Expert,
        instruction: str = "",
        params: Mapping[str, Any] = MappingProxyType({}),
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(card)
        self._inner = inner
        self._instruction = instruction
        self._params = dict(params)
        self._max_tokens = max_tokens

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        async with aclosing(relay(call, ChildRequest(self._inner, self._asked(request)))) as events:
            async for event in events:
                yield event
        for usage in used(call):
            yield usage

    def _asked(self, request: ChatRequest) -> ChatRequest:
        messages = request.messages
        if self._instruction:
            first = next(
                (n for n, m in enumerate(messages) if m.role not in ("system", "developer")), 0
            )
            told = Message("system", self._instruction)
            messages = (*messages[:first], told, *messages[first:])
        limited = request.max_tokens is not None or "max_completion_tokens" in request.params
        return replace(
            request,
            messages=messages,
            params={**request.params, **self._params},
            max_tokens=request.max_tokens if limited else self._max_tokens,
        )
