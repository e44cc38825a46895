"""What the client has been sent of an answer, and how another call goes on from there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from experts.cards import ExpertCard
from experts.errors import ExpertDivergedError
from experts.messages import ChatRequest, Delta, Event, Finish, Json, Message, Usage
from routers.features import estimate_tokens

_ECHO_CHARS = 16
"""A continuation that begins with so much of what it was to continue is a repetition."""

_SIGNED = "thinking_blocks"
"""The field of thoughts with their signatures."""


@dataclass(slots=True)
class Part:
    """What was sent of one choice.

    Attributes:
        text: Its text.
        reasoning: Its visible thought.
        calls: Tool call index to its name and its arguments so far.
        finished: Its finish reason was sent.
        opaque: Something was sent that can't be compared, e.g. a signed thought.
    """

    text: str = ""
    reasoning: str = ""
    calls: dict[int, tuple[str, str]] = field(default_factory=dict)
    finished: bool = False
    opaque: bool = False

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.reasoning += delta.reasoning
        self.opaque |= bool(delta.opaque or delta.fields)
        for index, name, arguments in _pieces(delta):
            before = self.calls.get(index, ("", ""))
            self.calls[index] = (before[0] + name, before[1] + arguments)


class Delivered:
    """The part of an answer that its client has; `add` whatever is sent."""

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}

    def add(self, event: Event) -> None:
        """`event` was sent."""
        if isinstance(event, Usage):
            return
        part = self.parts.setdefault(event.choice, Part())
        if isinstance(event, Finish):
            part.finished = True
        else:
            part.add(event)

    @property
    def empty(self) -> bool:
        return not self.parts

    def complete(self, choices: int) -> bool:
        """Whether nothing of so many choices is missing but usage."""
        finished = [part.finished for part in self.parts.values()]
        return len(finished) >= max(1, choices) and all(finished)

    @property
    def resumable(self) -> bool:
        """Whether another answer can be compared with it at all."""
        return not any(part.opaque for part in self.parts.values())

    def continued_by(self, card: ExpertCard, request: ChatRequest) -> bool:
        """Whether the expert can go on where it stops, rather than begin again."""
        part = self.parts.get(0)
        several = len(self.parts) > 1 or request.params.get("n") not in (None, 1)
        # A grammar begins anew with each call: half an object would be followed by a whole one.
        other = several or request.task != "chat" or request.needs_schema
        if not card.prefill or part is None or other:
            return False
        return bool(part.text) and not (part.calls or part.finished)

    def continuation(self, card: ExpertCard, request: ChatRequest) -> ChatRequest:
        """The request that asks to go on after the text."""
        text = self.parts[0].text
        params: dict[str, Any] = dict(request.params)
        if card.wire == "openai":
            # Anthropic's wire needs no more than the last message.
            params |= {"continue_final_message": True, "add_generation_prompt": False}
        spent = round(estimate_tokens(text))
        if isinstance(limit := params.get("max_completion_tokens"), int):
            params["max_completion_tokens"] = max(1, limit - spent)
        limit = request.max_tokens
        return replace(
            request,
            messages=(*request.messages, Message("assistant", text)),
            max_tokens=None if limit is None else max(1, limit - spent),
            params=params,
        )

    def usage_of_whole(self) -> Callable[[Usage], Usage]:
        """From the tokens of a call that goes on after the text, to those of the whole answer."""
        text = round(estimate_tokens(self.parts[0].text))

        def whole(rest: Usage) -> Usage:
            fresh = min(rest.input, text)
            cached = min(rest.cache_read, text - fresh)
            return replace(
                rest,
                input=rest.input - fresh,
                cache_read=rest.cache_read - cached,
                output=rest.output + text,
                estimated=True,
            )

        return whole


class Continuation:
    """What is new in an answer that was asked to go on; one that repeats the text is cut."""

    def __init__(self, delivered: Delivered) -> None:
        text = delivered.parts[0].text
        self._expected = text if len(text) >= _ECHO_CHARS else ""
        self._held = ""

    def take(self, event: Event) -> Iterator[Event]:
        """The events to send on."""
        if isinstance(event, Delta) and event.text and self._expected:
            yield from _unless_empty(_with_text(event, self._new(event.text)))
            return
        if isinstance(event, Finish) and self._held:
            yield Delta(self._held)
            self._held = self._expected = ""
        yield event

    def _new(self, text: str) -> str:
        """What can be sent with this `text`, and what was held back before."""
        self._held += text
        if self._expected.startswith(self._held) and self._held != self._expected:
            return ""
        new = self._held.removeprefix(self._expected)
        self._expected = self._held = ""
        return new


class Splice:
    """What is new in an answer that was begun again, as long as it begins in the same words.

    Visible thought is not compared: it is dropped where some was sent before, and so is what signs
    it.
    """

    def __init__(self, expert_id: str, delivered: Delivered) -> None:
        self._expert_id = expert_id
        self._left = {
            choice: replace(part, calls=dict(part.calls))
            for choice, part in delivered.parts.items()
        }
        self._begun = {choice: dict(part.calls) for choice, part in delivered.parts.items()}

    def take(self, event: Event) -> Iterator[Event]:
        """The events to send on.

        Raises:
            ExpertDivergedError: It is another answer.
        """
        left = None if isinstance(event, Usage) else self._left.get(event.choice)
        if left is None or isinstance(event, Usage):
            yield event
        elif left.finished:
            return
        elif isinstance(event, Finish):
            if _behind(left):
                raise self._diverged("is shorter than what was sent already")
            yield event
        else:
            yield from self._new(event, left)

    def _new(self, delta: Delta, left: Part) -> Iterator[Event]:
        if not (left.reasoning or _behind(left)):
            yield delta
            return
        text = self._rest(left.text, delta.text)
        left.text = left.text[len(delta.text) :]
        calls = tuple(self._new_calls(delta, left))
        behind = _behind(left)
        if behind and (text or self._begins_call(delta)):
            raise self._diverged("says something else before it has said what was sent already")
        reasoning = "" if left.reasoning or behind else delta.reasoning
        unsaid = {_SIGNED} if left.reasoning else set()
        fields = {} if behind else {n: v for n, v in delta.fields.items() if n not in unsaid}
        new = replace(_with_text(delta, text), tool_calls=calls, reasoning=reasoning, fields=fields)
        yield from _unless_empty(replace(new, logprobs=None, opaque=()) if behind else new)

    def _begins_call(self, delta: Delta) -> bool:
        """Whether it has a piece of a call that the client knows nothing of."""
        begun = self._begun[delta.choice]
        return any(index not in begun for index, _, _ in _pieces(delta))

    def _new_calls(self, delta: Delta, left: Part) -> Iterator[Json]:
        begun = self._begun[delta.choice]
        pieces = zip(delta.tool_calls, _pieces(delta), strict=True)
        for piece, (index, name, arguments) in pieces:
            if index not in begun:
                yield piece
                continue
            old_name, old_arguments = left.calls[index]
            new_name = self._rest(old_name, name)
            new_arguments = self._rest(old_arguments, arguments)
            left.calls[index] = (old_name[len(name) :], old_arguments[len(arguments) :])
            if new_name or new_arguments:
                # Its id was sent before: the client knows the call by that.
                kind, written = _kind(piece)
                said = {"name": new_name, written: new_arguments}
                yield {"index": index, kind: {k: v for k, v in said.items() if v}}

    def _rest(self, expected: str, found: str) -> str:
        """What `found` adds to `expected`."""
        if found.startswith(expected):
            return found[len(expected) :]
        if expected.startswith(found):
            return ""
        raise self._diverged("begins in other words than what was sent already")

    def _diverged(self, why: str) -> ExpertDivergedError:
        return ExpertDivergedError(self._expert_id, f"the answer {why}")


def _behind(left: Part) -> bool:
    """Whether the new answer has not said all yet that was sent."""
    return bool(left.text) or any(any(call) for call in left.calls.values())


def _pieces(delta: Delta) -> Iterator[tuple[int, str, str]]:
    """Index, name and arguments of each tool call piece; whole calls are numbered as they come."""
    for position, piece in enumerate(delta.tool_calls):
        index = piece.get("index")
        kind, written = _kind(piece)
        said = piece.get(kind) or {}
        number = index if isinstance(index, int) else position
        yield number, said.get("name") or "", said.get(written) or ""


def _kind(piece: Json) -> tuple[str, str]:
    """Where a piece of a call says what is called, and with what."""
    return ("custom", "input") if piece.get("custom") else ("function", "arguments")


def _with_text(delta: Delta, text: str) -> Delta:
    """The same with another text, and without what is known of the tokens of its own."""
    return delta if text == delta.text else replace(delta, text=text, logprobs=None)


def _unless_empty(delta: Delta) -> Iterator[Delta]:
    if delta != Delta(choice=delta.choice):
        yield delta
