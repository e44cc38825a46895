"""Drafts: answers that another expert reads before it answers itself.

What is told of them stands in the user's turn, never in a system message: a draft is no operator,
and one that was talked into giving orders must not give them with that voice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from experts.base import Call, Expert
from experts.compose.base import ChildRequest, FanOut, Reply, each_its_share, relay, said, why_none
from experts.compose.sampling import sampled
from experts.errors import ExpertCallError
from experts.messages import ChatRequest, Event, Message


@dataclass(frozen=True, slots=True)
class Drafting:
    """How drafts are asked for.

    Attributes:
        temperature: Of drafts, whatever the client wishes for the answer; None leaves it as it is.
        max_tokens: Longest draft; None: as long as the answer may be.
        min_successful: How many must come, >= 1.
        at_once: Most calls under way at the same time; None: all.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    min_successful: int = 1
    at_once: int | None = None

    def asks(self, experts: Iterable[Expert], request: ChatRequest) -> list[ChildRequest]:
        """A draft of each; who is there several times is asked for drafts that differ."""
        plain = as_draft(request, max_tokens=self.max_tokens, temperature=self.temperature)
        return [ChildRequest(each, sampled(plain, index)) for index, each in enumerate(experts)]


AS_ASKED = Drafting()
"""Drafts as warm and as long as the client asks for an answer to be."""
WARM = Drafting(temperature=0.7)
"""Drafts that differ, though one expert writes all of them."""


def as_draft(
    request: ChatRequest, *, max_tokens: int | None = None, temperature: float | None = None
) -> ChatRequest:
    """`request` as it is asked for a draft: plain text, no call of a tool, no set form.

    Args:
        request: What the client asks.
        max_tokens: Longest draft; None: as long as the answer may be.
        temperature: Of the draft, whatever the client wishes for the answer: at 0 all drafts of
            one expert would be the same. None leaves it as it is.
    """
    params: dict[str, Any] = dict(request.params)
    params.pop("response_format", None)
    # Tools stay declared, since providers refuse a conversation that used undeclared ones.
    for tools, choice in (("tools", "tool_choice"), ("functions", "function_call")):
        if params.get(tools):
            params[choice] = "none"
    if temperature is not None:
        params["temperature"] = temperature
    limit = request.max_tokens
    if max_tokens is not None:
        limit = max_tokens if limit is None else min(limit, max_tokens)
        params.pop("max_completion_tokens", None)
    return replace(request, params=params, max_tokens=limit, stream=False)


def told(request: ChatRequest, text: str) -> ChatRequest:
    """`request` with `text` before what its user said last; everything else as it was."""
    messages = list(request.messages)
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role == "user":
            messages[place] = _with_text(messages[place], text)
            return replace(request, messages=tuple(messages))
    return replace(request, messages=(*messages, Message("user", text)))


def _with_text(message: Message, text: str) -> Message:
    content = message.content
    if isinstance(content, tuple):
        return replace(message, content=({"type": "text", "text": f"{text}\n\n"}, *content))
    return replace(message, content=f"{text}\n\n{content or ''}")


async def drafts(
    call: Call, asks: Sequence[ChildRequest], *, keep: float, at_once: int | None = None
) -> tuple[list[Reply], list[ExpertCallError]]:
    """All drafts that come, in the order in which they were asked for, and why others did not.

    Args:
        call: The composition's own.
        asks: Whom to ask what, all at once.
        keep: The part of the money that a cap leaves, in [0, 1), for the calls that follow.
        at_once: Most calls under way at the same time; None: all.
    """
    came, errors = list[Reply](), list[ExpertCallError]()
    async with FanOut(call, each_its_share(call, asks, keep), at_once) as replies:
        async for reply in replies:
            if reply.error is not None:
                errors.append(reply.error)
            elif reply.text.strip():
                came.append(reply)
    return sorted(came, key=lambda reply: reply.index), errors


async def conclude(
    call: Call,
    asked: ChildRequest,
    request: ChatRequest,
    spare: Reply | None,
    errors: Sequence[ExpertCallError] = (),
) -> AsyncGenerator[Event, None]:
    """The last call, streamed as it comes; or `spare`, if that call fails before it began.

    Args:
        call: The composition's own.
        asked: Who concludes, and what it is asked.
        request: What the client asks.
        spare: The answer to give instead; None: there is none.
        errors: What failed before.

    Raises:
        ExpertCallError: There is no answer, or it broke off.
    """
    begun = False
    try:
        async with aclosing(relay(call, asked)) as events:
            async for event in events:
                begun = True
                yield event
    except ExpertCallError as error:
        if begun:
            raise
        failed = error
    else:
        return
    if spare is None:
        raise why_none([*errors, failed])
    call.trace.append({"child": failed.expert_id, "failed": failed.kind})
    for event in said(spare, request):
        yield event


def told_of(replies: Sequence[Reply], errors: Sequence[ExpertCallError]) -> dict[str, object]:
    """For the trace: who drafted, and who failed to."""
    return {
        "drafts": [reply.expert_id for reply in replies],
        "failed": [{"child": error.expert_id, "failed": error.kind} for error in errors],
    }
