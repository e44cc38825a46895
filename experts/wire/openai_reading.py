"""Reads OpenAI's answers, whole or chunk by chunk, as events. Pure; one reader per answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

from experts.messages import Delta, Event, Finish, Json, Usage
from experts.wire.shapes import index_of, logprobs_of, word_of
from experts.wire.token_counts import MOST_TOKENS, token_count
from experts.wire.tool_calls import ToolCallPieces

_MESSAGE = ("role", "content", "tool_calls", "reasoning_content", "reasoning")
_TEXTS = ("content", "reasoning_content", "reasoning")
_CHOICE = frozenset({"index", "delta", "message", "text", "logprobs", "finish_reason"})
_ANSWER = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})


class ChatReader:
    """Chat completions: called with the whole answer, or with chunk after chunk."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCallPieces] = {}
        self._streamed: set[int] = set()
        self._messages: dict[int, MessagePieces] = {}
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def __call__(self, data: Json) -> Iterator[Event]:
        self._answer |= _others(data, _ANSWER)
        for choice in data.get("choices") or ():
            index = index_of(choice)
            delta = self._delta(choice, index)
            if delta is not None:
                yield delta
            if word_of(choice, "finish_reason"):
                if nameless := tuple(self._calls[index].nameless()):
                    yield Delta(choice=index, tool_calls=nameless)
                # The last chunk of a choice tells also what earlier ones said of it.
                whole = _put_in(self._choices.pop(index, {}), choice)
                yield finish_of(whole, index, self._answer)
            elif others := _others(choice, _CHOICE):
                _put_in(self._choices.setdefault(index, {}), others)
        yield from usage_events(data)

    def _delta(self, choice: Json, index: int) -> Delta | None:
        calls = self._calls.setdefault(index, ToolCallPieces())
        piece = self._piece(choice, index, calls)
        # DeepSeek's word, and vLLM's newer one.
        reasoning = text_of(piece.get("reasoning_content") or piece.get("reasoning"))
        reasoning = reasoning or thought_of(piece.get("content"))
        found = Delta(
            text_of(piece.get("content")),
            index,
            tuple(calls.ordered(piece.get("tool_calls") or ())),
            reasoning,
            fields_of(piece),
            logprobs_of(choice),
        )
        said = found.text or found.tool_calls or reasoning or found.fields or found.logprobs
        if said:
            self._streamed.add(index)
        return found if said else None

    def _piece(self, choice: Json, index: int, calls: ToolCallPieces) -> Json:
        """What is new in `choice`: its `delta`, or its `message`, which is whole or a piece."""
        piece, message = choice.get("delta") or {}, choice.get("message") or {}
        if message and (index not in self._streamed or index in self._messages):
            fresh = self._messages.setdefault(index, MessagePieces()).fresh(message)
            piece = {**fresh, "tool_calls": None if calls else _numbered(message)}
        elif message and not calls and not piece.get("tool_calls"):
            # Some send the calls once more, or only then, with the last chunk.
            piece = {**piece, "tool_calls": _numbered(message)}
        elif not message:
            # Chunks are full of fields that say nothing yet.
            piece = {name: value for name, value in piece.items() if value}
        return piece


def _put_in(whole: dict[str, Any], said: Json) -> dict[str, Any]:
    """`whole` with what one more chunk says: lists go on. In place, since streams have many."""
    for name, value in said.items():
        known = whole.get(name)
        if isinstance(known, list) and isinstance(value, list):
            known.extend(value)
        elif isinstance(known, dict) and isinstance(value, dict):
            known.update(value)
        elif value is not None or name not in whole:
            whole[name] = copy(value)
    return whole


class MessagePieces:
    """What is new in each `message` of a stream that has those in place of deltas.

    Some servers send in each the next piece, others all that was said so far. It is true from the
    first one on.
    """

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._begun = False

    def __bool__(self) -> bool:
        return self._begun

    def fresh(self, message: Json) -> Json:
        """`message` without the text that was told before."""
        self._begun = True
        fresh = dict(message)
        for name in _TEXTS:
            text = message.get(name)
            if isinstance(text, str):
                before = self._said.get(name, "")
                fresh[name] = text.removeprefix(before)
                self._said[name] = before + fresh[name]
        return fresh


def usage_events(data: Json) -> Iterator[Usage]:
    """The disjoint token counts that an answer or a chunk reports, if it does.

    A report of what can't be counts is none, nor is one of no tokens at all: a sound answer is
    neither lost for it nor free.
    """
    usage = data.get("usage")
    if not usage:
        return
    try:
        counted = _disjoint(usage)
    except (TypeError, ValueError, AttributeError):
        return
    if any(counted):
        yield Usage(*counted, reported=usage, answer=_others(data, _ANSWER))


def _disjoint(usage: Json) -> tuple[int, int, int, int, int]:
    prompt, completion = (
        token_count(usage, "prompt_tokens"),
        token_count(usage, "completion_tokens"),
    )
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens", prompt)
    stored = _detail(usage, "prompt_tokens_details", "cache_write_tokens", prompt - cached)
    fresh = prompt - cached - stored
    # Google counts hidden thought in the total alone, xAI there and by its name; both bill it as
    # output. All others count it among the tokens of the answer.
    beside = max(0, token_count(usage, "total_tokens") - prompt - completion)
    thought = _detail(usage, "completion_tokens_details", "reasoning_tokens", MOST_TOKENS)
    if thought <= beside:
        return fresh, cached, stored, completion, beside
    thought = min(thought, completion)
    return fresh, cached, stored, completion - thought, thought


def fields_of(piece: Json) -> dict[str, Any]:
    """What else a message says; left out is what has not the shape that we translate."""
    return {
        name: value
        for name, value in piece.items()
        if name not in _MESSAGE and _FITS.get(name, _anything)(value)
    }


def _anything(_: Any) -> bool:
    return True


def _is_thoughts(value: Any) -> bool:
    return _is_objects(value) and all(
        isinstance(thought.get(name), str | None) for thought in value for name in _THOUGHT
    )


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


_THOUGHT = ("type", "thinking", "signature", "data")
_FITS: dict[str, Callable[[Any], bool]] = {
    "refusal": lambda value: isinstance(value, str | None),
    "annotations": _is_objects,
    "thinking_blocks": _is_thoughts,
}


def text_of(content: Any) -> str:
    """Text as a string or, from some providers, as a list of parts."""
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in content)
    return content if isinstance(content, str) else ""


def thought_of(content: Any) -> str:
    """Thought among the parts of a content, as Mistral's models think."""
    parts = content if isinstance(content, list) else ()
    return "".join(text_of(part.get("thinking")) for part in parts)


def finish_of(choice: Json, index: int, answer: Json) -> Finish:
    """The end of one choice, with all that was said of it and of the whole answer."""
    # vLLM's word for the stop sequence; for a stop token it is a number.
    stop = choice.get("stop_reason")
    return Finish(
        str(choice["finish_reason"]),
        index,
        stop if isinstance(stop, str) else None,
        fields=_others(choice, _CHOICE),
        answer=_others(answer, _ANSWER),
    )


def _detail(usage: Json, group: str, name: str, at_most: int) -> int:
    # A part that exceeds its whole is a provider's slip; billing it would count tokens twice.
    details = usage.get(group)
    return min(token_count(details, name), at_most) if details else 0


def _numbered(message: Json) -> list[Json]:
    """The calls of a whole message: each element is a call of its own."""
    calls = message.get("tool_calls") or ()
    return [{**call, "index": place} for place, call in enumerate(calls)]


def _others(data: Json, known: frozenset[str]) -> dict[str, Any]:
    if data.keys() <= known:
        return {}
    return {n: value for n, value in data.items() if n not in known and value is not None}
