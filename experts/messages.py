"""What goes into an expert and what comes out: frozen records, free of any wire format and of I/O.

An expert answers with a stream of events (`Delta`, `Finish`, `Usage`). A plain answer is the same
stream collected (`collect`), so streaming and not streaming can't drift apart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: `system`, `developer`, `user`, `assistant` or `tool`.
        content: Plain text, a tuple of typed parts as OpenAI has them, or None (a tool call).
        fields: Everything else the message carried (`name`, `tool_calls`, `tool_call_id`, ...).
    """

    role: str
    content: str | tuple[Json, ...] | None
    fields: Json = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of this message; parts that are not text are left out."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(part.get("text", "")) for part in self.content if _is_text(part))

    @property
    def modalities(self) -> frozenset[str]:
        """What an expert must be able to read: a subset of {"text", "image", "audio", "file"}."""
        if self.content is None or isinstance(self.content, str):
            return frozenset({"text"})
        return frozenset(_MODALITY.get(str(part.get("type")), "text") for part in self.content)


_MODALITY = {"image_url": "image", "input_audio": "audio", "file": "file"}


def _is_text(part: Json) -> bool:
    return part.get("type") in ("text", "input_text")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request as every wire format is parsed into, and every expert reads it.

    Attributes:
        messages: The conversation, oldest first; never empty.
        max_tokens: Most tokens the answer may have, or None for the expert's own limit.
        stream: Whether the client wants tokens as they come; the events are the same either way.
        params: All other fields of the body by their OpenAI names (`temperature`, `tools`,
            `response_format`, ...), known to us or not; experts that take them get them as is.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    stream: bool = False
    params: Json = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The whole conversation as text, one message a line: what a router looks at."""
        return "\n".join(text for message in self.messages if (text := message.text))

    @property
    def question(self) -> str:
        """The text of the last user message, "" if there is none."""
        users = (m.text for m in reversed(self.messages) if m.role == "user")
        return next(users, "")

    @property
    def modalities(self) -> frozenset[str]:
        """Everything that the messages carry, see `Message.modalities`."""
        return frozenset().union(*(message.modalities for message in self.messages))

    @property
    def needs_tools(self) -> bool:
        return bool(self.params.get("tools") or self.params.get("functions"))

    @property
    def needs_schema(self) -> bool:
        wanted = self.params.get("response_format") or {}
        return wanted.get("type") in ("json_schema", "json_object")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, in disjoint parts: their sum is all that was read and written.

    Attributes:
        input: Prompt tokens read afresh.
        cache_read: Prompt tokens that the provider had cached.
        cache_write: Prompt tokens that the provider put into its cache.
        output: Tokens of the answer that the client sees.
        reasoning: Tokens of hidden thought.
        estimated: True when the provider reported none and we counted them ourselves.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False

    @property
    def prompt_tokens(self) -> int:
        return self.input + self.cache_read + self.cache_write

    @property
    def completion_tokens(self) -> int:
        return self.output + self.reasoning

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer.

    Attributes:
        text: New text, possibly empty.
        choice: Which of the `n` answers it belongs to.
        tool_calls: Pieces of tool calls in OpenAI's streaming shape (with `index`).
        reasoning: New text of the visible thought that comes before the answer.
        fields: Other fields of the piece as sent (`refusal`, a thought's `signature`, ...).
        logprobs: The provider's `logprobs` object for this piece, if it sent one.
    """

    text: str = ""
    choice: int = 0
    tool_calls: tuple[Json, ...] = ()
    reasoning: str = ""
    fields: Json = field(default_factory=dict)
    logprobs: Json | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """One answer is complete; `reason` is OpenAI's word (`stop`, `length`, `tool_calls`, ...)."""

    reason: str
    choice: int = 0


Event = Delta | Finish | Usage


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer. `tool_calls` are whole, in OpenAI's non-streaming shape."""

    text: str
    finish_reason: str | None
    tool_calls: tuple[Json, ...] = ()
    reasoning: str = ""
    fields: Json = field(default_factory=dict)
    logprobs: Json | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """All that an expert answered; `usage` is None when nobody counted."""

    choices: tuple[Choice, ...]
    usage: Usage | None

    @property
    def text(self) -> str:
        return self.choices[0].text if self.choices else ""


class Collector:
    """Adds events up to a `Completion`."""

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceParts] = {}
        self._usage: Usage | None = None

    def add(self, event: Event) -> None:
        if isinstance(event, Usage):
            self._usage = event if self._usage is None else self._usage + event
            return
        parts = self._choices.setdefault(event.choice, _ChoiceParts())
        if isinstance(event, Finish):
            parts.reason = event.reason
        else:
            parts.add(event)

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def completion(self) -> Completion:
        choices = (parts.choice() for _, parts in sorted(self._choices.items()))
        return Completion(tuple(choices), self._usage)


async def collect(events: AsyncIterator[Event]) -> Completion:
    """Read a stream of events to its end."""
    collector = Collector()
    async for event in events:
        collector.add(event)
    return collector.completion()


class _ChoiceParts:
    def __init__(self) -> None:
        self.reason: str | None = None
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._fields: dict[str, Any] = {}
        self._logprobs: dict[str, Any] | None = None

    def add(self, delta: Delta) -> None:
        self._texts.append(delta.text)
        self._thoughts.append(delta.reasoning)
        for piece in delta.tool_calls:
            self._add_tool_call(piece)
        for name, value in delta.fields.items():
            joins = isinstance(value, str) and isinstance(self._fields.get(name), str)
            self._fields[name] = self._fields[name] + value if joins else value
        if delta.logprobs:
            self._add_logprobs(delta.logprobs)

    def _add_tool_call(self, piece: Json) -> None:
        index = int(piece.get("index", len(self._calls)))
        call = self._calls.setdefault(index, {"type": "function", "function": {}})
        call.update({k: v for k, v in piece.items() if k not in ("index", "function") and v})
        for name, value in (piece.get("function") or {}).items():
            call["function"][name] = call["function"].get(name, "") + (value or "")

    def _add_logprobs(self, logprobs: Json) -> None:
        self._logprobs = self._logprobs or {}
        for name, tokens in logprobs.items():
            if isinstance(tokens, list):
                self._logprobs[name] = [*self._logprobs.get(name, []), *tokens]
            else:
                self._logprobs.setdefault(name, tokens)

    def choice(self) -> Choice:
        calls = tuple(call for _, call in sorted(self._calls.items()))
        return Choice(
            "".join(self._texts),
            self.reason,
            calls,
            "".join(self._thoughts),
            dict(self._fields),
            self._logprobs,
        )
