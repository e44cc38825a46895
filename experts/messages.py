"""What goes into an expert and what comes out: frozen records, free of any wire format and of I/O.

An expert answers with a stream of events (`Delta`, `Finish`, `Usage`). A plain answer is the same
stream collected (`collect`), so streaming and not streaming can't drift apart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import starmap
from operator import is_
from typing import Any, Literal

from experts.pieces import whole_calls, whole_fields, whole_logprobs
from experts.record import record

Json = Mapping[str, Any]
Task = Literal["chat", "complete", "embed"]
RawInput = str | tuple[int, ...]
"""A text, or the tokens of one, as the client sent it."""


@record()
class Source:
    """What a value was made from, for who can read the source itself and so loses nothing.

    It holds only while the value is as it was made: whoever redacts, shortens or rewrites a value
    has other parts in it than `made`, and the source no longer answers.

    Attributes:
        wire: The wire format of `data`, e.g. "anthropic.messages".
        data: The JSON as it came.
        made: The parts that were made from it, compared by identity.
        headers: Request headers that belong to `data`.
    """

    wire: str
    data: Any
    made: tuple[Any, ...]
    headers: Mapping[str, str] = field(default_factory=dict)

    def read(self, wire: str, *parts: Any) -> Any:
        """`data`, or None if it is of another wire or `parts` are no longer what was made of it."""
        if wire != self.wire:
            return None
        unchanged = all(starmap(is_, zip(parts, self.made, strict=True)))
        return self.data if unchanged else None


@record()
class Message:
    """One turn of a conversation.

    Attributes:
        role: `system`, `developer`, `user`, `assistant` or `tool`.
        content: Plain text, a tuple of typed parts as OpenAI has them, or None (a tool call).
        fields: Everything else the message carried (`name`, `tool_calls`, `tool_call_id`, ...).
        source: What content and fields were made from.
    """

    role: str
    content: str | tuple[Json, ...] | None
    fields: Json = field(default_factory=dict)
    source: Source | None = field(default=None, compare=False, repr=False)

    def source_on(self, wire: str) -> Any:
        """The message as `wire` had it, or None if it came otherwise or was changed since."""
        return self.source and self.source.read(wire, self.content, self.fields)

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


_MOST_KEPT = 64 * 1024
"""Characters of a request's text that are kept with it; longer ones are not worth the memory."""
_MODALITY = {
    "image_url": "image",
    "image": "image",
    "input_audio": "audio",
    "file": "file",
    "document": "file",
}


def _is_text(part: Json) -> bool:
    return part.get("type") in ("text", "input_text")


@record()
class ChatRequest:
    """A chat request as every wire format is parsed into, and every expert reads it.

    Attributes:
        messages: The conversation, oldest first; never empty.
        max_tokens: Most tokens the answer may have, or None for the expert's own limit.
        stream: Whether the client wants tokens as they come; the events are the same either way.
        params: All other fields of the body by their OpenAI names (`temperature`, `tools`,
            `response_format`, ...), known to us or not; experts that take them get them as is.
        source: The body that messages, limit and params were made from.
        task: What is wanted: an answer to a conversation, a prompt continued, or vectors.
        raw: The one prompt to continue, or the inputs to embed; `messages` then hold the same as
            user messages, for all who read a conversation only.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    stream: bool = False
    params: Json = field(default_factory=dict)
    source: Source | None = field(default=None, compare=False, repr=False)
    task: Task = "chat"
    raw: tuple[RawInput, ...] = ()
    _text: str | None = field(default=None, init=False, compare=False, repr=False)

    def source_on(self, wire: str) -> Any:
        """The body as `wire` had it, or None if it came otherwise or was changed since."""
        return self.source and self.source.read(wire, self.messages, self.max_tokens, self.params)

    @property
    def text(self) -> str:
        """The whole conversation as text, one message a line: what a router looks at."""
        said = self._text
        if said is None:
            said = "\n".join(
                [
                    text
                    for message in self.messages
                    if (text := message.content if type(message.content) is str else message.text)
                ]
            )
            if len(said) <= _MOST_KEPT:
                object.__setattr__(self, "_text", said)
        return said

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
    def choices(self) -> int:
        """How many answers are asked for, >= 1; an embedding is one for each input."""
        wanted = len(self.raw) if self.task == "embed" else self.params.get("n")
        return wanted if isinstance(wanted, int) else 1

    @property
    def needs_tools(self) -> bool:
        return bool(self.params.get("tools") or self.params.get("functions"))

    @property
    def needs_schema(self) -> bool:
        wanted = self.params.get("response_format") or {}
        return wanted.get("type") in ("json_schema", "json_object")

    @property
    def needs_raw_prompt(self) -> str | None:
        """The field of a prompt to continue that no chat can stand in for, if it has one."""
        if self.task != "complete":
            return None
        params = self.params
        if any(not isinstance(prompt, str) for prompt in self.raw):
            return "a prompt of tokens"
        if params.get("suffix"):
            return "suffix"
        if (params.get("best_of") or 1) > (params.get("n") or 1):
            return "best_of"
        if params.get("echo") and params.get("logprobs") is not None:
            return "echo with logprobs"
        return "max_tokens of 0" if self.max_tokens == 0 else None


@record()
class Usage:
    """Tokens of one call, in disjoint parts: their sum is all that was read and written.

    Attributes:
        input: Prompt tokens read afresh.
        cache_read: Prompt tokens that the provider had cached.
        cache_write: Prompt tokens that the provider put into its cache.
        output: Tokens of the answer that the client sees.
        reasoning: Tokens of hidden thought.
        estimated: True when the provider reported none and we counted them ourselves.
        reported: What the provider said of it on OpenAI's wire, fields that we don't know included.
        answer: Other fields of the whole answer that came with it, see `Finish.answer`.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False
    reported: Json = field(default_factory=dict, compare=False, repr=False)
    answer: Json = field(default_factory=dict, compare=False, repr=False)

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


@record()
class Delta:
    """A piece of an answer.

    Attributes:
        text: New text, possibly empty.
        choice: Which of the `n` answers it belongs to.
        tool_calls: Pieces of tool calls in OpenAI's streaming shape: each has the `index` of its
            call; `id`, `type` and the name come with the first piece of a call and never again.
        reasoning: New text of the visible thought that comes before the answer.
        fields: Other fields of the piece as sent (`refusal`, signed `thinking_blocks`, ...).
        logprobs: The provider's `logprobs` object for this piece, if it sent one.
        opaque: Events of Anthropic's stream that nothing else here can say (citations, server
            tools, blocks not known yet); only a client of the same wire gets to see them.
    """

    text: str = ""
    choice: int = 0
    tool_calls: tuple[Json, ...] = ()
    reasoning: str = ""
    fields: Json = field(default_factory=dict)
    logprobs: Json | None = None
    opaque: tuple[Json, ...] = ()


@record()
class Finish:
    """One answer is complete.

    Attributes:
        reason: OpenAI's word (`stop`, `length`, `tool_calls`, ...).
        choice: Which of the `n` answers it was.
        stop: The stop sequence that ended it, if the expert said which.
        opaque: What Anthropic's wire says of the end beyond that (`stop_reason`, `container`, ...).
        fields: Other fields of the choice as OpenAI's wire sent them (`stop_reason`, ...).
        answer: Other fields of the whole answer (`system_fingerprint`, `service_tier`, ...).
    """

    reason: str
    choice: int = 0
    stop: str | None = None
    opaque: Json = field(default_factory=dict)
    fields: Json = field(default_factory=dict)
    answer: Json = field(default_factory=dict)


Event = Delta | Finish | Usage


_EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer.

    Attributes:
        tool_calls: Whole calls in OpenAI's non-streaming shape.
        fields: Other fields of the message, see `Delta.fields`.
        finish_fields: Other fields of the choice, see `Finish.fields`.
        source: The events that it was added up from.
    """

    text: str
    finish_reason: str | None
    tool_calls: tuple[Json, ...] = ()
    reasoning: str = ""
    fields: Json = field(default_factory=dict)
    logprobs: Json | None = None
    finish_fields: Json = field(default_factory=dict)
    source: Source | None = field(default=None, compare=False, repr=False)

    def events(self) -> tuple[Delta | Finish, ...]:
        """The answer in pieces, in the order in which it was written as far as that is known."""
        said = (self.text, self.finish_reason, self.tool_calls, self.reasoning)
        return (self.source and self.source.read(_EVENTS, *said)) or self._in_usual_order()

    def _in_usual_order(self) -> tuple[Delta | Finish, ...]:
        calls = tuple({"index": index, **call} for index, call in enumerate(self.tool_calls))
        # Signed thoughts say their text themselves.
        thought = "" if self.fields.get("thinking_blocks") else self.reasoning
        deltas = (
            Delta(reasoning=thought, fields=self.fields),
            Delta(self.text, logprobs=self.logprobs),
            Delta(tool_calls=calls),
        )
        return (*deltas, Finish(self.finish_reason or "stop", fields=self.finish_fields))


@dataclass(frozen=True, slots=True)
class Completion:
    """All that an expert answered.

    Attributes:
        usage: None when nobody counted.
        fields: What was said of all choices together, see `Finish.answer`.
    """

    choices: tuple[Choice, ...]
    usage: Usage | None
    fields: Json = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.choices[0].text if self.choices else ""


class Collector:
    """Adds events up to a `Completion`."""

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceParts] = {}
        self._usage: Usage | None = None
        self._fields: dict[str, Any] = {}

    def add(self, event: Event) -> None:
        if isinstance(event, Usage):
            self._usage = event if self._usage is None else self._usage + event
            return
        parts = self._choices.get(event.choice)
        if parts is None:
            parts = self._choices[event.choice] = _ChoiceParts()
        parts.add(event)
        if isinstance(event, Finish) and event.answer:
            self._fields.update(event.answer)

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def completion(self) -> Completion:
        choices = (parts.choice() for _, parts in sorted(self._choices.items()))
        return Completion(tuple(choices), self._usage, dict(self._fields))


async def collect(events: AsyncIterator[Event]) -> Completion:
    """Read a stream of events to its end."""
    collector = Collector()
    async for event in events:
        collector.add(event)
    return collector.completion()


class _ChoiceParts:
    """Keeps the events of one answer; they are added up when the answer is asked for."""

    def __init__(self) -> None:
        self._events: list[Delta | Finish] = []
        self.add = self._events.append

    def choice(self) -> Choice:
        deltas = [event for event in self._events if isinstance(event, Delta)]
        ends = [event for event in self._events if isinstance(event, Finish)]
        text, reason = "".join(delta.text for delta in deltas), ends[-1].reason if ends else None
        calls = whole_calls(piece for delta in deltas for piece in delta.tool_calls)
        thought = "".join(delta.reasoning for delta in deltas)
        return Choice(
            text,
            reason,
            calls,
            thought,
            whole_fields(delta.fields for delta in deltas),
            whole_logprobs(delta.logprobs for delta in deltas if delta.logprobs),
            whole_fields(end.fields for end in ends),
            Source(_EVENTS, tuple(self._events), (text, reason, calls, thought)),
        )
