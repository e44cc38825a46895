"""OpenAI's legacy completions out: text from events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from experts.messages import Choice, Completion, Delta, Event, Finish, Json, Usage
from gateway.api.chat_out import DONE, sse, usage_chunk, usage_json
from gateway.api.front import Envelope
from gateway.errors import ApiError

_OBJECT = "text_completion"


def _fields(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": f"cmpl-{envelope.decision_id}",
        "object": _OBJECT,
        "created": envelope.created,
        "model": envelope.expert,
    }


def completion_json(envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
    """The whole body of an answer that is not streamed."""
    choices = [_choice_json(index, choice) for index, choice in enumerate(completion.choices)]
    answer = {**completion.fields, **_fields(envelope), "choices": choices}
    return orjson.dumps({**answer, "usage": usage_json(usage)})


def _choice_json(index: int, choice: Choice) -> dict[str, Any]:
    logprobs = Logprobs().legacy(choice.logprobs) if choice.logprobs else None
    return {
        **choice.finish_fields,
        "index": index,
        "text": choice.text + _refusal(choice.fields),
        "logprobs": logprobs,
        "finish_reason": _reason(choice.finish_reason),
    }


def _refusal(fields: Json) -> str:
    """Words of refusal: what a chat has a field for is text here."""
    refusal = fields.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def _reason(reason: str | None) -> str | None:
    """The reason in the words that this format has: a chat may end in calls, a text just ends."""
    return "stop" if reason in ("tool_calls", "function_call") else reason


class TextWriter:
    """Events to server-sent pieces of text."""

    def __init__(self, envelope: Envelope, *, include_usage: bool) -> None:
        self._fields = _fields(envelope)
        self._include_usage = include_usage
        self._answer: Json = {}
        self._logprobs: dict[int, Logprobs] = {}

    def write(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Finish):
            self._answer = {**self._answer, **event.answer}
            yield self._chunk(event.choice, "", None, event.fields, _reason(event.reason))
        elif isinstance(event, Delta):
            text = event.text + _refusal(event.fields)
            if not (text or event.logprobs):
                return
            said = self._logprobs.setdefault(event.choice, Logprobs())
            logprobs = said.legacy(event.logprobs) if event.logprobs else None
            yield self._chunk(event.choice, text, logprobs, {}, None)

    def end(self, usage: Usage, cost_usd: float | None) -> Iterator[bytes]:
        """Usage for a client that asked for it, with `cost_usd` as our addition, and `[DONE]`."""
        if self._include_usage:
            yield usage_chunk({**self._answer, **usage.answer, **self._fields}, usage, cost_usd)
        yield DONE

    def fail(self, failure: ApiError) -> Iterator[bytes]:
        """An error event without `[DONE]`."""
        yield sse(failure.body())

    def _chunk(
        self, index: int, text: str, logprobs: Json | None, more: Json, reason: str | None
    ) -> bytes:
        choice = {**more, "index": index, "text": text, "logprobs": logprobs}
        usage = {"usage": None} if self._include_usage else {}
        choices = [{**choice, "finish_reason": reason}]
        return sse({**self._answer, **self._fields, "choices": choices, **usage})


class Logprobs:
    """Log probabilities of one answer in the legacy shape; offsets go on from piece to piece."""

    def __init__(self) -> None:
        self._offset = 0

    def legacy(self, logprobs: Json) -> Json:
        """The same in the legacy shape, if it is not in it already."""
        if "content" not in logprobs:
            return logprobs
        tokens = [each for each in logprobs["content"] or () if isinstance(each, dict)]
        offsets = []
        for each in tokens:
            offsets.append(self._offset)
            self._offset += len(str(each.get("token", "")))
        return {
            "tokens": [each.get("token") for each in tokens],
            "token_logprobs": [each.get("logprob") for each in tokens],
            "top_logprobs": [_top(each.get("top_logprobs")) for each in tokens],
            "text_offset": offsets,
        }


def _top(listed: Any) -> dict[str, float] | None:
    if not listed:
        return None
    return {each["token"]: each["logprob"] for each in listed}


def renumbered(event: Event, prompt: int, answers: int) -> Event:
    """An event of one prompt's answers as one of all prompts', `answers` to each."""
    if isinstance(event, Usage):
        return event
    return replace(event, choice=prompt * answers + event.choice)
