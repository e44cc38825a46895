"""OpenAI's Responses as clients speak them, for the differential test."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from experts.messages import Usage
from gateway.api.front import Front
from gateway.api.responses import ResponsesFront
from tests.contracts.wire_cases import TOOL_SCHEMA, Said, Turn, Wanted

_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


class ResponsesClient:
    """OpenAI's Responses."""

    front: Front = ResponsesFront()
    hears = frozenset({"text", "thought", "calls", "finish", "usage"})

    def body(self, wanted: Wanted, *, stream: bool) -> dict[str, Any]:
        system = [turn for turn in wanted.turns if turn.role == "system"]
        items = [item for turn in wanted.turns[len(system) :] for item in self._items(turn)]
        body: dict[str, Any] = {
            "model": "x",
            "input": items,
            "max_output_tokens": wanted.max_tokens,
            "stream": stream,
        }
        if system:
            body["instructions"] = system[0].parts[0]
        if wanted.temperature is not None:
            body["temperature"] = wanted.temperature
        if wanted.stop:
            body["stop"] = list(wanted.stop)
        if wanted.tools:
            body["tools"] = [
                {"type": "function", "name": name, "parameters": TOOL_SCHEMA, "strict": False}
                for name in wanted.tools
            ]
        if wanted.choice:
            named = {"type": "function", "name": wanted.choice}
            body["tool_choice"] = named if wanted.choice in wanted.tools else wanted.choice
        if not wanted.parallel:
            body["parallel_tool_calls"] = False
        if wanted.schema:
            schema = {"type": "json_schema", "name": "answer", "schema": wanted.schema}
            body["text"] = {"format": schema}
        return body

    def _items(self, turn: Turn) -> list[dict[str, Any]]:
        if turn.result_of:
            output = {"call_id": turn.result_of, "output": turn.parts[0]}
            return [{"type": "function_call_output", **output}]
        kind = "output_text" if turn.role == "assistant" else "input_text"
        parts = [
            {"type": kind, "text": part}
            if isinstance(part, str)
            else {"type": "input_image", "image_url": part[1]}
            for part in turn.parts
        ]
        said = [{"type": "message", "role": turn.role, "content": parts}] if parts else []
        calls = [
            {"type": "function_call", "call_id": i, "name": n, "arguments": json.dumps(a)}
            for i, n, a in turn.calls
        ]
        return [*said, *calls]

    def whole(self, content: bytes) -> Said:
        return self._said(Response.model_validate_json(content))

    def streamed(self, content: bytes) -> Said:
        events = []
        for block in content.decode().removesuffix("\n\n").split("\n\n"):
            _, data = block.split("\n")
            events.append(_EVENTS.validate_json(data.removeprefix("data: ")))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        said = self._said(events[-1].response)
        pieces = {"response.output_text.delta": "", "response.reasoning_text.delta": ""}
        for event in events:
            if event.type in pieces:
                pieces[event.type] += event.delta
        assert pieces["response.output_text.delta"] == said.text
        assert pieces["response.reasoning_text.delta"] == said.thought
        return said

    def _said(self, answer: Response) -> Said:
        items: list[Any] = list(answer.output)
        calls = [item for item in items if item.type == "function_call"]
        usage = answer.usage
        assert usage is not None
        read, written = usage.input_tokens_details, usage.output_tokens_details
        stored = getattr(read, "cache_write_tokens", None) or 0
        return Said(
            answer.output_text,
            "".join(
                part.text
                for item in items
                if item.type == "reasoning"
                for part in item.content or ()
            ),
            tuple((call.call_id, call.name, json.loads(call.arguments)) for call in calls),
            self._finish(answer, bool(calls)),
            Usage(
                usage.input_tokens - read.cached_tokens - stored,
                read.cached_tokens,
                stored,
                usage.output_tokens - written.reasoning_tokens,
                written.reasoning_tokens,
            ),
            (),
        )

    def _finish(self, answer: Response, called: bool) -> str:
        if answer.status == "incomplete":
            assert answer.incomplete_details is not None
            why = answer.incomplete_details.reason
            return "length" if why == "max_output_tokens" else str(why)
        assert answer.status == "completed"
        return "tool_calls" if called else "stop"
