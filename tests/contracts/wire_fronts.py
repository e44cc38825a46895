"""Wire formats as clients speak them, for the differential test: one class for each.

Answers are put together by the official SDKs' own code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message as AnthropicMessage
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from experts.messages import Usage
from gateway.api.chat import CHAT
from gateway.api.front import Front
from gateway.api.messages import MESSAGES
from tests.contracts.wire_cases import TOOL_SCHEMA, Said, Turn, Wanted


class Client(Protocol):
    """A client of one wire format.

    Attributes:
        front: What serves it.
        hears: Which fields of `Said` its format has words for.
    """

    front: Front
    hears: frozenset[str]

    def body(self, wanted: Wanted, *, stream: bool) -> dict[str, Any]: ...

    def whole(self, content: bytes) -> Said: ...

    def streamed(self, content: bytes) -> Said: ...


ALL = frozenset({"text", "thought", "calls", "finish", "usage"})


def events_of(content: bytes) -> Iterable[str]:
    """The data of each server-sent event, checked to be one line of its own."""
    for block in content.decode().removesuffix("\n\n").split("\n\n"):
        *_, data = block.split("\n")
        assert data.startswith("data: "), block
        yield data.removeprefix("data: ")


class ChatClient:
    """OpenAI's chat completions."""

    front: Front = CHAT
    hears = ALL

    def body(self, wanted: Wanted, *, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": "x",
            "messages": [self._message(turn) for turn in wanted.turns],
            "max_tokens": wanted.max_tokens,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if wanted.temperature is not None:
            body["temperature"] = wanted.temperature
        if wanted.stop:
            body["stop"] = list(wanted.stop)
        if wanted.tools:
            body["tools"] = [self._tool(name) for name in wanted.tools]
        if wanted.choice in wanted.tools:
            body["tool_choice"] = {"type": "function", "function": {"name": wanted.choice}}
        elif wanted.choice:
            body["tool_choice"] = wanted.choice
        if not wanted.parallel:
            body["parallel_tool_calls"] = False
        if wanted.schema:
            schema = {"name": "answer", "schema": wanted.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _tool(self, name: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, "parameters": TOOL_SCHEMA}}

    def _message(self, turn: Turn) -> dict[str, Any]:
        parts = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": part[1]}}
            for part in turn.parts
        ]
        only_text = turn.role != "user" or (len(parts) == 1 and isinstance(turn.parts[0], str))
        content: Any = "".join(turn.parts) if only_text else parts
        message: dict[str, Any] = {"role": turn.role, "content": content or None}
        if turn.calls:
            message["tool_calls"] = [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(arguments)},
                }
                for call_id, name, arguments in turn.calls
            ]
        return {**message, "tool_call_id": turn.result_of} if turn.result_of else message

    def whole(self, content: bytes) -> Said:
        return self._said(ChatCompletion.model_validate_json(content))

    def streamed(self, content: bytes) -> Said:
        *chunks, done = events_of(content)
        assert done == "[DONE]"
        state: Any = ChatCompletionStreamState()
        for chunk in chunks:
            state.handle_chunk(ChatCompletionChunk.model_validate_json(chunk))
        snapshot = state.current_completion_snapshot
        return self._said(ChatCompletion.model_validate(snapshot.model_dump()))

    def _said(self, answer: ChatCompletion) -> Said:
        (choice,) = answer.choices
        calls: Any = choice.message.tool_calls or ()
        usage = answer.usage
        assert usage is not None
        read, said = usage.prompt_tokens_details, usage.completion_tokens_details
        cached = (read and read.cached_tokens) or 0
        stored = (read and read.cache_write_tokens) or 0
        thought = (said and said.reasoning_tokens) or 0
        # What a provider counts in the sum alone, or beside the answer, is thought too.
        beside = usage.total_tokens - usage.prompt_tokens - usage.completion_tokens
        fresh = usage.prompt_tokens - cached - stored
        written = usage.completion_tokens - (0 if beside else thought)
        return Said(
            choice.message.content or "",
            # The newer word goes through where nothing is translated.
            getattr(choice.message, "reasoning_content", "")
            or getattr(choice.message, "reasoning", ""),
            tuple((c.id, c.function.name, json.loads(c.function.arguments)) for c in calls),
            choice.finish_reason,
            Usage(fresh, cached, stored, written, beside or thought),
            (),
        )


class MessagesClient:
    """Anthropic's messages."""

    front: Front = MESSAGES
    hears = ALL

    def body(self, wanted: Wanted, *, stream: bool) -> dict[str, Any]:
        said = [turn for turn in wanted.turns if turn.role != "system"]
        body: dict[str, Any] = {
            "model": "x",
            "messages": self._messages(said),
            "max_tokens": wanted.max_tokens,
        }
        if stream:
            body["stream"] = True
        if wanted.turns[0].role == "system":
            body["system"] = "".join(wanted.turns[0].parts)
        if wanted.temperature is not None:
            body["temperature"] = wanted.temperature
        if wanted.stop:
            body["stop_sequences"] = list(wanted.stop)
        if wanted.tools:
            body["tools"] = [{"name": name, "input_schema": TOOL_SCHEMA} for name in wanted.tools]
        choice = self._choice(wanted)
        if choice:
            body["tool_choice"] = choice
        if wanted.schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": wanted.schema}}
        return body

    def _choice(self, wanted: Wanted) -> dict[str, Any] | None:
        names = {"auto": "auto", "none": "none", "required": "any"}
        if wanted.choice in wanted.tools:
            choice: dict[str, Any] = {"type": "tool", "name": wanted.choice}
        elif wanted.choice or not wanted.parallel:
            choice = {"type": names[wanted.choice or "auto"]}
        else:
            return None
        if not wanted.parallel and wanted.choice != "none":
            choice["disable_parallel_tool_use"] = True
        return choice

    def _messages(self, turns: list[Turn]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for turn in turns:
            role = "assistant" if turn.role == "assistant" else "user"
            if not messages or messages[-1]["role"] != role:
                messages.append({"role": role, "content": []})
            messages[-1]["content"] += self._blocks(turn)
        return messages

    def _blocks(self, turn: Turn) -> list[dict[str, Any]]:
        blocks = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", "source": self._source(part[1])}
            for part in turn.parts
        ]
        if turn.result_of:
            return [
                {"type": "tool_result", "tool_use_id": turn.result_of, "content": turn.parts[0]}
            ]
        uses = [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in turn.calls]
        return [*blocks, *uses]

    def _source(self, url: str) -> dict[str, Any]:
        if not url.startswith("data:"):
            return {"type": "url", "url": url}
        media_type, _, data = url.removeprefix("data:").partition(";base64,")
        return {"type": "base64", "media_type": media_type, "data": data}

    def whole(self, content: bytes) -> Said:
        return self._said(AnthropicMessage.model_validate_json(content))

    def streamed(self, content: bytes) -> Said:
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        begun: list[int] = []
        kinds: list[str] = []
        for data in events_of(content):
            event = json.loads(data)
            kinds.append(event["type"])
            if event["type"] == "ping":
                continue
            if event["type"] == "content_block_start":
                begun.append(event["index"])
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
        assert kinds.count("message_start") == kinds.count("message_delta") == 1
        assert kinds[-1] == "message_stop"
        assert begun == list(range(len(begun)))
        assert kinds.count("content_block_stop") == len(begun)
        return self._said(AnthropicMessage.model_validate(snapshot.model_dump()))

    def _said(self, answer: AnthropicMessage) -> Said:
        blocks: list[Any] = list(answer.content)
        usage: Any = answer.usage
        thought = usage.output_tokens_details.thinking_tokens
        finish = {
            "end_turn": "stop",
            "max_tokens": "length",
            "tool_use": "tool_calls",
            "refusal": "content_filter",
        }
        return Said(
            "".join(block.text for block in blocks if block.type == "text"),
            "".join(block.thinking for block in blocks if block.type == "thinking"),
            tuple((b.id, b.name, b.input) for b in blocks if b.type == "tool_use"),
            finish[str(answer.stop_reason)],
            Usage(
                usage.input_tokens,
                usage.cache_read_input_tokens,
                usage.cache_creation_input_tokens,
                usage.output_tokens - thought,
                thought,
            ),
            (),
        )
