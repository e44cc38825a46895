"""What a call may cost at most, before it is made. Pure."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any

import orjson

from experts.cards import NANO_PER_USD, ExpertCard, Prices
from experts.messages import ChatRequest, Message
from routers.features import answers_wanted

_NANO_PER_MICRO = 1_000
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Parts of a message that cost what their text is long; any other kind costs what the provider says.
_TEXTS = {"text", "input_text", "output_text", "refusal", "thinking", "tool_use", "tool_result"}
# Providers put text of their own around a prompt: marks of turns, instructions for tools.
_OVERHEAD_TOKENS = 64
_TOOLS_OVERHEAD_TOKENS = 1_024


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The dearest way in which a call can end, in nano-dollars.

    Attributes:
        fixed: For reading the prompt, and for the call itself; more than 0 unless it is free.
        per_token: For one token in each of the answers wanted.
        tokens: Longest answer that is counted with.
        implied: Whether nobody has said that length, so that it must be sent with the request.
    """

    fixed: float
    per_token: float
    tokens: int
    implied: bool

    def cost(self, tokens: int) -> int:
        """Of an answer of at most `tokens`; rounding can't make the real one dearer."""
        total = self.fixed + self.per_token * tokens
        return math.ceil(total) + 1 if total else 0

    def affordable(self, room: int) -> int:
        """The longest answer that `room` nano-dollars pay for; -1 when none is."""
        longest = min(self.tokens, sys.maxsize - 1)
        return bisect_right(range(longest + 1), room, key=self.cost) - 1


def worst_case(
    card: ExpertCard, prices: Prices, request: ChatRequest, default_tokens: int
) -> WorstCase | None:
    """The bound for one call to `card`; None when nothing bounds what its prompt can cost.

    A token is at least a byte of the text as it is sent, so the bytes of the request bound its
    tokens. Images, sounds and files are no text: for them the context window is the bound.

    Args:
        card: Whom to ask.
        prices: Its prices.
        request: What to ask.
        default_tokens: Longest answer where neither the request nor the card bounds it.
    """
    read = _prompt_tokens(card, request)
    if read is None:
        return None
    dearest = max(p for p in (prices.input, prices.cache_read, prices.cache_write) if p is not None)
    tokens, implied = _answer_tokens(card, request, default_tokens)
    return WorstCase(
        read * dearest * _NANO_PER_MICRO + prices.request * NANO_PER_USD,
        _answers(request) * prices.output * _NANO_PER_MICRO,
        tokens,
        implied,
    )


def bounded(request: ChatRequest, tokens: int) -> ChatRequest:
    """`request` with the answer bounded, by whichever name the client bounded it."""
    named = {name: tokens for name in _LIMITS if name in request.params}
    params = {**request.params, **named} if named else request.params
    return replace(request, max_tokens=tokens, params=params)


def _prompt_tokens(card: ExpertCard, request: ChatRequest) -> int | None:
    if not all(_is_text(message) for message in request.messages):
        return card.context_tokens
    size = len(_json([[m.role, m.content, dict(m.fields)] for m in request.messages]))
    size += len(_json(dict(request.params))) + len(_json(request.raw))
    if card.prompt is not None:
        size += len(card.prompt.render("").encode())
    overhead = _TOOLS_OVERHEAD_TOKENS if request.needs_tools else 0
    return size + overhead + _OVERHEAD_TOKENS * (1 + len(request.messages))


def _is_text(message: Message) -> bool:
    if not isinstance(message.content, tuple):
        return True
    return all(part.get("type") in _TEXTS for part in message.content)


def _answers(request: ChatRequest) -> int:
    best_of = request.params.get("best_of")
    return max(answers_wanted(request), best_of if isinstance(best_of, int) else 1)


def _answer_tokens(card: ExpertCard, request: ChatRequest, default_tokens: int) -> tuple[int, bool]:
    if request.task == "embed":
        return 0, False
    said = [request.max_tokens, *(request.params.get(name) for name in _LIMITS)]
    bounds = [bound for bound in said if isinstance(bound, int) and not isinstance(bound, bool)]
    if bounds:
        return max(bounds), False
    own = card.max_output_tokens or card.context_tokens
    return (own, False) if own is not None else (default_tokens, True)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
