"""Wire formats as experts speak them, for the differential test: one class for each."""

from __future__ import annotations

import json
from typing import Any, Protocol

from experts.cards import ExpertCard
from experts.fakes.anthropic import Message
from experts.wire.anthropic import AnthropicDialect, Habits
from experts.wire.dialect import Dialect
from experts.wire.openai import ChatDialect
from tests.contracts.wire_cases import TOOL_SCHEMA, Said, Turn, Wanted, cut


class Provider(Protocol):
    """An upstream of one wire format.

    Attributes:
        card: The expert's.
        dialect: How the gateway speaks to it.
    """

    card: ExpertCard
    dialect: Dialect

    def understood(self, body: dict[str, Any]) -> Wanted: ...

    def whole(self, said: Said) -> bytes: ...

    def streamed(self, said: Said) -> bytes: ...


class ChatProvider:
    """OpenAI's chat completions."""

    card = ExpertCard("openai")
    dialect: Dialect = ChatDialect()

    def understood(self, body: dict[str, Any]) -> Wanted:
        choice = body.get("tool_choice")
        schema = (body.get("response_format") or {}).get("json_schema")
        for tool in body.get("tools", ()):
            assert tool["function"]["parameters"] == TOOL_SCHEMA
        return Wanted(
            tuple(self._turn(message) for message in body["messages"]),
            body["max_tokens"],
            body.get("temperature"),
            tuple(body.get("stop", ())),
            tuple(tool["function"]["name"] for tool in body.get("tools", ())),
            choice["function"]["name"] if isinstance(choice, dict) else choice,
            body.get("parallel_tool_calls") is not False,
            schema["schema"] if schema else None,
        )

    def _turn(self, message: dict[str, Any]) -> Turn:
        content = message["content"] or ()
        parts = [content] if isinstance(content, str) else [self._part(part) for part in content]
        calls = list(message.get("tool_calls", ()))
        read = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in calls
        ]
        return Turn(message["role"], tuple(parts), tuple(read), message.get("tool_call_id"))

    def _part(self, part: dict[str, Any]) -> Any:
        return part["text"] if part["type"] == "text" else ("image", part["image_url"]["url"])

    def _usage(self, said: Said) -> dict[str, Any]:
        usage = said.usage
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": usage.cache_read,
                "cache_write_tokens": usage.cache_write,
            },
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        }

    def _calls(self, said: Said) -> list[dict[str, Any]]:
        return [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for call_id, name, arguments in said.calls
        ]

    def whole(self, said: Said) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
        if said.thought:
            message["reasoning_content"] = said.thought
        if said.calls:
            message["tool_calls"] = self._calls(said)
        choice = {"index": 0, "message": message, "finish_reason": said.finish}
        return json.dumps({"choices": [choice], "usage": self._usage(said)}).encode()

    def streamed(self, said: Said) -> bytes:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in cut(said.thought, said.sizes)]
        deltas += [{"content": piece} for piece in cut(said.text, said.sizes)]
        for index, call in enumerate(self._calls(said)):
            named = {"name": call["function"]["name"], "arguments": ""}
            deltas.append({"tool_calls": [{**call, "index": index, "function": named}]})
            for piece in cut(call["function"]["arguments"], said.sizes):
                part = {"index": index, "function": {"arguments": piece}}
                deltas.append({"tool_calls": [part]})
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": said.finish}]})
        chunks.append({"choices": [], "usage": self._usage(said)})
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        return "".join([*lines, "data: [DONE]\n\n"]).encode()


class MessagesProvider:
    """Anthropic's messages."""

    card = ExpertCard("anthropic", wire="anthropic", params="drop")
    dialect: Dialect = AnthropicDialect(card, Habits())

    def understood(self, body: dict[str, Any]) -> Wanted:
        choice = body.get("tool_choice") or {}
        names = {"any": "required", "tool": choice.get("name")}
        system = [Turn("system", (body["system"],))] if "system" in body else []
        turns = [turn for message in body["messages"] for turn in self._turns(message)]
        wanted = (body.get("output_config") or {}).get("format") or {}
        implied = choice == {"type": "auto", "disable_parallel_tool_use": True}
        for tool in body.get("tools", ()):
            assert tool["input_schema"] == TOOL_SCHEMA
        return Wanted(
            (*system, *turns),
            body["max_tokens"],
            body.get("temperature"),
            tuple(body.get("stop_sequences", ())),
            tuple(tool["name"] for tool in body.get("tools", ())),
            None if implied else names.get(choice.get("type", ""), choice.get("type")),
            not choice.get("disable_parallel_tool_use"),
            wanted.get("schema"),
        )

    def _turns(self, message: dict[str, Any]) -> list[Turn]:
        """Each result as a turn of its own, then the rest."""
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        results = [
            Turn("tool", (block["content"],), result_of=block["tool_use_id"])
            for block in blocks
            if block["type"] == "tool_result"
        ]
        parts = [self._part(block) for block in blocks if block["type"] in ("text", "image")]
        uses = [block for block in blocks if block["type"] == "tool_use"]
        calls: list[Any] = [(use["id"], use["name"], use["input"]) for use in uses]
        rest = [Turn(message["role"], tuple(parts), tuple(calls))] if parts or calls else []
        return [*results, *rest]

    def _part(self, block: dict[str, Any]) -> Any:
        if block["type"] == "text":
            return block["text"]
        source = block["source"]
        inline = f"data:{source.get('media_type')};base64,{source.get('data')}"
        return "image", source["url"] if source["type"] == "url" else inline

    def _message(self, said: Said) -> Message:
        content: list[dict[str, Any]] = []
        if said.thought:
            content.append({"type": "thinking", "thinking": said.thought, "signature": "c2ln"})
        if said.text:
            content.append({"type": "text", "text": said.text})
        content += [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in said.calls]
        reasons = {
            "stop": "end_turn",
            "length": "max_tokens",
            "tool_calls": "tool_use",
            "content_filter": "refusal",
        }
        usage = said.usage
        counts = {
            "input_tokens": usage.input,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write,
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"thinking_tokens": usage.reasoning},
        }
        size = said.sizes[0]
        return Message(tuple(content), reasons[said.finish], usage=counts, piece=size)

    def whole(self, said: Said) -> bytes:
        return json.dumps(self._message(said).body("m")).encode()

    def streamed(self, said: Said) -> bytes:
        events = self._message(said).events("m")
        lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        return "".join(lines).encode()
