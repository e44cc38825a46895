"""The four ways to ask, as strict clients that refuse whatever does not belong in an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]
ASKED = "Sag etwas"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client got.

    Attributes:
        text: All of it.
        finish: Why it ended, in OpenAI's word; None: it did not say so.
        tokens: Those of prompt and answer, if told.
        error: The error that it ended in.
    """

    text: str = ""
    finish: str | None = None
    tokens: tuple[int, int] | None = None
    error: Json | None = None


class Api(Protocol):
    """One way to ask.

    Attributes:
        path: Where.
        upstream: Which endpoint of an expert is asked: `chat` or `completions`.
    """

    path: str
    upstream: str

    def body(self, *, stream: bool) -> Json: ...

    def whole(self, content: bytes) -> Heard: ...

    def streamed(self, content: bytes) -> Heard: ...

    def error(self, content: bytes) -> Json: ...


def events_of(content: bytes) -> list[tuple[str | None, str]]:
    """Name and data of each event; a stream that stops within one is no stream."""
    assert content.endswith(b"\n\n"), content[-80:]
    found = []
    for block in content.decode().removesuffix("\n\n").split("\n\n"):
        *names, data = block.split("\n")
        assert data.startswith("data: "), block
        name = names[0].removeprefix("event: ") if names else None
        found.append((name, data.removeprefix("data: ")))
    return found


def openai_error(content: bytes) -> Json:
    body: Json = json.loads(content)
    assert set(body) == {"error"}
    error: Json = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


class Chat:
    """OpenAI's chat completions, and its legacy completions."""

    def __init__(self, path: str = "/v1/chat/completions") -> None:
        self.path = path
        self.upstream = "chat" if "chat" in path else "completions"

    def body(self, *, stream: bool) -> Json:
        if self.upstream == "chat":
            body: Json = {"messages": [{"role": "user", "content": ASKED}]}
        else:
            body = {"prompt": ASKED}
        return body | (
            {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        )

    def whole(self, content: bytes) -> Heard:
        body = json.loads(content)
        (choice,) = body["choices"]
        text = choice["message"]["content"] if self.upstream == "chat" else choice["text"]
        return Heard(text, choice["finish_reason"], _openai_tokens(body["usage"]))

    def streamed(self, content: bytes) -> Heard:
        text, finish, tokens = "", None, None
        *data, last = [data for _, data in events_of(content)]
        for chunk in map(json.loads, data):
            assert "error" not in chunk, "an error must be the last event"
            for choice in chunk["choices"]:
                assert finish is None, "text after its finish"
                said = choice["delta"].get("content") if "delta" in choice else choice["text"]
                text += said or ""
                finish = choice["finish_reason"]
            if chunk.get("usage"):
                assert tokens is None
                tokens = _openai_tokens(chunk["usage"])
        if last == "[DONE]":
            return Heard(text, finish, tokens)
        return Heard(text, finish, tokens, openai_error(last.encode()))

    def error(self, content: bytes) -> Json:
        return openai_error(content)


class Responses:
    """OpenAI's Responses."""

    path = "/v1/responses"
    upstream = "chat"

    def body(self, *, stream: bool) -> Json:
        return {"input": ASKED, "stream": stream, "store": False}

    def whole(self, content: bytes) -> Heard:
        return self._heard(json.loads(content))

    def _heard(self, response: Json) -> Heard:
        items = [item for item in response["output"] if item["type"] == "message"]
        text = "".join(part["text"] for item in items for part in item["content"])
        usage = response["usage"]
        finish = "stop" if response["status"] == "completed" else None
        tokens = (usage["input_tokens"], usage["output_tokens"]) if usage else None
        return Heard(text, finish, tokens)

    def streamed(self, content: bytes) -> Heard:
        events = [(name, json.loads(data)) for name, data in events_of(content)]
        assert all(name == event["type"] for name, event in events)
        numbers = [event["sequence_number"] for _, event in events]
        assert numbers == list(range(len(numbers)))
        deltas = [event["delta"] for name, event in events if name == "response.output_text.delta"]
        name, last = events[-1]
        if name == "error":
            assert events[-2][0] == "response.failed"
            assert not any(name == "response.completed" for name, _ in events)
            return Heard("".join(deltas), error=last["error"])
        assert name == "response.completed"
        heard = self._heard(last["response"])
        assert heard.text == "".join(deltas)
        return heard

    def error(self, content: bytes) -> Json:
        return openai_error(content)


class Messages:
    """Anthropic's messages."""

    path = "/v1/messages"
    upstream = "chat"

    def body(self, *, stream: bool) -> Json:
        messages = [{"role": "user", "content": ASKED}]
        return {"messages": messages, "max_tokens": 100, "stream": stream}

    def whole(self, content: bytes) -> Heard:
        body = json.loads(content)
        text = "".join(block["text"] for block in body["content"])
        usage = body["usage"]
        return Heard(
            text, _reason(body["stop_reason"]), (usage["input_tokens"], usage["output_tokens"])
        )

    def streamed(self, content: bytes) -> Heard:
        text, finish, tokens = "", None, None
        events = [(name, json.loads(data)) for name, data in events_of(content)]
        assert all(name == event["type"] for name, event in events)
        names = [name for name, _ in events]
        assert names[0] == "message_start"
        for name, event in events:
            if name == "content_block_delta":
                text += event["delta"]["text"]
            elif name == "message_delta":
                finish, usage = _reason(event["delta"]["stop_reason"]), event["usage"]
                tokens = (usage["input_tokens"], usage["output_tokens"])
        assert names.count("message_stop") + names.count("error") == 1
        if names[-1] == "error":
            return Heard(text, finish, tokens, self._error(events[-1][1]))
        assert names[-1] == "message_stop"
        return Heard(text, finish, tokens)

    def error(self, content: bytes) -> Json:
        return self._error(json.loads(content))

    def _error(self, body: Json) -> Json:
        assert body["type"] == "error"
        assert body["request_id"]
        error: Json = body["error"]
        assert error["message"]
        return error


def _openai_tokens(usage: Json) -> tuple[int, int]:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def _reason(word: str) -> str:
    return {"end_turn": "stop"}.get(word, word)


APIS: dict[str, Api] = {
    "chat": Chat(),
    "completions": Chat("/v1/completions"),
    "responses": Responses(),
    "messages": Messages(),
}
