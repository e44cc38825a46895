"""OpenAI's JSON for upstream calls: requests out, events in. Pure; no HTTP.

Three dialects: chat completions; legacy completions, for prompts to continue and for base models
that need a few-shot prompt to chat; embeddings.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import itemgetter
from typing import Any

from experts.cards import ExpertCard, FewShotPrompt
from experts.messages import ChatRequest, Delta, Event, Finish, Json, Message
from experts.wire.dialect import Dialect, Reader, with_echo
from experts.wire.openai_reading import ChatReader, finish_of, text_of, usage_events
from experts.wire.shapes import index_of, logprobs_of, word_of

_COMPLETION_PARAMS = (
    "temperature",
    "top_p",
    "seed",
    "n",
    "frequency_penalty",
    "presence_penalty",
)
CHAT_WIRE = "openai.chat"
_NOT_IN_CHAT = ("echo", "best_of", "suffix", "logprobs")


def dialect_of(card: ExpertCard, max_tokens_field: str | None = None) -> Dialect:
    """How the endpoint behind `card` is spoken to.

    Args:
        card: Its `api` and `prompt` count.
        max_tokens_field: What it calls the longest answer; None: what the client called it.
    """
    if card.api == "embeddings":
        return EmbeddingsDialect()
    if card.takes_raw_prompts:
        return CompletionsDialect(card.prompt)
    return ChatDialect(max_tokens_field)


class ChatDialect:
    """`/chat/completions`: the conversation goes through as it came."""

    path = "chat/completions"

    def __init__(self, max_tokens_field: str | None = None) -> None:
        self._max_tokens_field = max_tokens_field

    @property
    def takes_all(self) -> bool:
        """Whether a body of this wire goes through as it came, but for the model's name."""
        return self._max_tokens_field is None

    def body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        source = request.source_on(CHAT_WIRE)
        if source is not None and self._max_tokens_field is None:
            return _with_stream({**source, "model": model}, request)
        params = dict(request.params) if request.task == "chat" else _as_chat(request.params)
        asked_as = "max_completion_tokens" if "max_completion_tokens" in params else "max_tokens"
        params.pop("max_completion_tokens", None)
        body = {
            **params,
            "model": model,
            "messages": [message_json(message) for message in request.messages],
        }
        if request.max_tokens is not None:
            body[self._max_tokens_field or asked_as] = request.max_tokens
        return _with_stream(body, request)

    def headers(self, request: ChatRequest) -> dict[str, str]:
        return {}

    def reader(self, request: ChatRequest) -> Reader:
        return with_echo(ChatReader(), request)


class CompletionsDialect:
    """`/completions`: a prompt goes through as it came; a question goes into the few-shot prompt.

    Earlier question-and-answer turns of the conversation become further examples.
    """

    path = "completions"

    def __init__(self, prompt: FewShotPrompt | None) -> None:
        self._prompt = prompt

    def body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        body = self._raw(request) if request.task == "complete" else self._few_shot(request)
        body["model"] = model
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        return _with_stream(body, request)

    def _raw(self, request: ChatRequest) -> dict[str, Any]:
        (prompt,) = request.raw
        return {**request.params, "prompt": prompt if isinstance(prompt, str) else list(prompt)}

    def _few_shot(self, request: ChatRequest) -> dict[str, Any]:
        if self._prompt is None:
            raise ValueError("this expert has no prompt to chat with")
        wanted = request.params.get("stop") or []
        stops = wanted if isinstance(wanted, list) else [wanted] if isinstance(wanted, str) else []
        return {
            "prompt": self._prompt.render(request.question, _earlier_turns(request)),
            "stop": [*self._prompt.stop, *stops],
            **{name: request.params[name] for name in _COMPLETION_PARAMS if name in request.params},
        }

    def headers(self, request: ChatRequest) -> dict[str, str]:
        return {}

    def reader(self, request: ChatRequest) -> Reader:
        begun: set[int] = set()
        raw = request.task == "complete"

        def events(data: Json) -> Iterator[Event]:
            for choice in data.get("choices") or ():
                index, text = index_of(choice), text_of(choice.get("text"))
                logprobs = logprobs_of(choice) if raw else None
                # The answer to a few-shot prompt follows a colon, so it begins with a space.
                text = text if raw or index in begun else text.lstrip()
                if text or logprobs:
                    begun.add(index)
                    yield Delta(text, index, logprobs=logprobs)
                if word_of(choice, "finish_reason"):
                    yield finish_of(choice, index, data)
            yield from usage_events(data)

        return events


class EmbeddingsDialect:
    """`/embeddings`: vector after vector, each as the one field `embedding` of its choice."""

    path = "embeddings"

    def body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        inputs = [item if isinstance(item, str) else list(item) for item in request.raw]
        return {**request.params, "model": model, "input": inputs}

    def headers(self, request: ChatRequest) -> dict[str, str]:
        return {}

    def reader(self, request: ChatRequest) -> Reader:

        def events(data: Json) -> Iterator[Event]:
            vectors = sorted(_vectors(data.get("data") or ()), key=itemgetter(0))
            if [index for index, _ in vectors] != list(range(len(request.raw))):
                raise ValueError("not a vector for every input")
            for index, vector in vectors:
                yield Delta(choice=index, fields={"embedding": vector})
                yield Finish("stop", index)
            yield from usage_events(data)

        return events


_NUMBERS = frozenset({int, float})


def _vectors(items: Iterable[Json]) -> Iterator[tuple[int, str | list[float]]]:
    """Each vector with the place of its input: numbers, or base64 of 32-bit floats."""
    for place, item in enumerate(items):
        vector = item.get("embedding")
        packed = isinstance(vector, str) and len(base64.b64decode(vector, validate=True)) % 4 == 0
        numbers = isinstance(vector, list) and set(map(type, vector)) <= _NUMBERS
        if not (isinstance(vector, str | list) and (packed or numbers)):
            raise ValueError("an embedding must be numbers or base64")
        yield int(item.get("index", place)), vector


def message_json(message: Message) -> dict[str, Any]:
    """A message in OpenAI's shape, every field as it came but those that we added to an answer."""
    content = list(message.content) if isinstance(message.content, tuple) else message.content
    body = {**message.fields, "role": message.role, "content": content}
    body.pop("thinking_blocks", None)
    return body


def _with_stream(body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
    options = body.pop("stream_options", None) or {}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {**options, "include_usage": True}
    return body


def _as_chat(params: Json) -> dict[str, Any]:
    """Legacy completion fields as chat has them; `echo` is added to the answer by the reader."""
    body = {name: value for name, value in params.items() if name not in _NOT_IN_CHAT}
    if params.get("logprobs") is not None:
        body["logprobs"] = True
        body["top_logprobs"] = params["logprobs"]
    return body


def _earlier_turns(request: ChatRequest) -> tuple[tuple[str, str], ...]:
    said = [message for message in request.messages if message.role in ("user", "assistant")]
    return tuple(
        (asked.text, answer.text)
        for asked, answer in pairwise(said)
        if (asked.role, answer.role) == ("user", "assistant")
    )
