"""What a chunk adds to an answer, in the shape that official clients can add up. Pure."""

from __future__ import annotations

from typing import Any

from experts.messages import Json
from experts.wire.openai_reading import fields_of, text_of, thought_of
from experts.wire.shapes import index_of, logprobs_of, word_of
from experts.wire.tool_calls import ToolCallPieces

_WORDS = ("reasoning_content", "reasoning")


def asked_choices(choices: Any) -> list[Json]:
    """Those of a chunk's choices that were asked for.

    Raises:
        TypeError, ValueError, AttributeError: There is one that is none. This is looked for before
            any is told: a chunk is taken as a whole or not at all.
    """
    if not isinstance(choices, list):
        raise TypeError("choices that are none")
    for choice in choices:
        fit_choice(choice, ToolCallPieces(), begun=True)
    return [choice for choice in choices if not index_of(choice)]


def fit_choice(choice: Json, calls: ToolCallPieces, *, begun: bool) -> Json:
    """`choice` itself if it is fit, else one that says the same.

    Clients add up all strings of a message, its role too if it is said twice, and fail at a
    content that is a list of parts or no text at all, at a reason that is no word, at pieces of
    calls without a number, and where index or delta are missing.

    Args:
        choice: Of one chunk.
        calls: Puts the pieces of the answer's tool calls in order.
        begun: An earlier chunk had one.

    Raises:
        TypeError, ValueError, AttributeError: It has a piece of the answer that is none.
    """
    fit = _fit_delta(choice.get("delta") or {}, calls, begun=begun)
    whole = {"index": 0, **choice, "delta": fit}
    if "finish_reason" in choice:
        whole["finish_reason"] = word_of(choice, "finish_reason")
    if "logprobs" in choice:
        whole["logprobs"] = logprobs_of(choice)
    if type(choice.get("index")) is int and whole == choice:
        return choice
    return {**whole, "index": index_of(choice)}


def _fit_delta(delta: Json, calls: ToolCallPieces, *, begun: bool) -> Json:
    parts = delta.get("content")
    if len(delta) == 1 and isinstance(parts, str):
        return delta
    fit: dict[str, Any] = {n: v for n, v in delta.items() if n in _KNOWN} | fields_of(delta)
    if begun or delta.get("role") != "assistant":
        fit.pop("role", None)
    for name in _WORDS:
        if name in delta and not isinstance(delta[name], str | None):
            fit[name] = text_of(delta[name])
    if not isinstance(parts, str | None):
        said = {"content": text_of(parts), "reasoning_content": thought_of(parts)}
        fit |= {"content": None, **{name: text for name, text in said.items() if text}}
    if pieces := delta.get("tool_calls"):
        fit["tool_calls"] = list(calls.ordered(pieces))
        if not fit["tool_calls"]:
            del fit["tool_calls"]
    return fit


_KNOWN = frozenset({"role", "content", "tool_calls", *_WORDS})
