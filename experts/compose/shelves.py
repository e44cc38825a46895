"""Examples from the log that are told with a request, and thought templates made of them.

Source: Feng et al., "FusionFactory: Fusing LLM Capabilities with Multi-LLM Log Data", 2025
(thought-level fusion).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.base import ChildRequest, Composed, relay, used
from experts.compose.drafts import told
from experts.messages import ChatRequest, Event, Message

_GUIDELINES = "Guidelines that worked on similar questions; use what fits and leave what does not:"


class Example(Protocol):
    """One question of the past, and what is to be told with it."""

    @property
    def question(self) -> str: ...

    @property
    def text(self) -> str:
        """A checked answer with its reasoning, or a guideline for questions like it."""
        ...


class Shelf(Protocol):
    """Where examples are kept."""

    async def near(self, question: str, most: int) -> Sequence[Example]:
        """The nearest of the same kind, never the question itself or one nearly the same."""
        ...


class Templated(Composed):
    """Another expert that is told thought templates of similar questions.

    Args:
        card: Its card.
        inner: Who answers.
        shelf: Where templates are kept.
        most: Templates that are told.
    """

    def __init__(self, card: ExpertCard, inner: Expert, shelf: Shelf, most: int = 3) -> None:
        super().__init__(card)
        self._inner = inner
        self._shelf = shelf
        self._most = most

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        found = await self._shelf.near(request.question, self._most)
        call.trace.append({"templates": [example.question[:80] for example in found]})
        asked = ChildRequest(self._inner, with_guidelines(request, found))
        async with aclosing(relay(call, asked)) as events:
            async for event in events:
                yield event
        for usage in used(call):
            yield usage


def with_guidelines(request: ChatRequest, found: Sequence[Example]) -> ChatRequest:
    """The question after these templates; as it is when there are none."""
    if not found:
        return request
    shown = [
        f"- For questions like: {_short(e.question)}\n  {' '.join(e.text.split())}" for e in found
    ]
    return told(request, "\n".join([_GUIDELINES, *shown, "", "The question:"]))


def with_turns(request: ChatRequest, found: Sequence[Example]) -> ChatRequest:
    """The conversation after one turn for each example, the nearest last.

    As turns they reach base models, too, whose prompt is made of questions and answers.
    """
    first = next(
        (n for n, m in enumerate(request.messages) if m.role not in ("system", "developer")), 0
    )
    turns = [
        Message(role, content)
        for example in reversed(found)
        for role, content in (("user", example.question), ("assistant", example.text))
    ]
    messages = (*request.messages[:first], *turns, *request.messages[first:])
    return replace(request, messages=messages)


def _short(question: str) -> str:
    words = " ".join(question.split())
    return words if len(words) <= 200 else words[:199] + "…"
